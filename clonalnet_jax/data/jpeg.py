"""JPEG files a few rows at a time.

libjpeg can decode the first rows of an image and stop, and a file with a restart marker
after every row of blocks can be cut to the rows that are wanted; no Python package
offers either. Both are a matter of a few bytes of the header (ITU-T T.81, annex B): the
file that comes out is a JPEG of fewer rows, to be decoded as any other.
"""

from typing import NamedTuple

_SOF_BASELINE = (0xC0, 0xC1)  # Huffman-coded, sequential; rows come in their order
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _DRI, _SOS, _EOI = 0xE1, 0xDD, 0xDA, b"\xff\xd9"


class Header(NamedTuple):
    """What is in a header, as far as it is needed here.

    Attributes:
      height: pixels.
      width: pixels.
      components: 1 for grey, 3 for colour, 4 for CMYK.
      sequential: whether the rows are stored one after the other.
      exif: whether there is EXIF data, which may ask for a rotation.
      height_at: offset of the two bytes of the height.
      scan_at: offset of the compressed data.
      block_rows: pixels of a row of blocks.
      restarts: whether every row of blocks ends in a restart marker.
    """

    height: int
    width: int
    components: int
    sequential: bool
    exif: bool
    height_at: int
    scan_at: int
    block_rows: int
    restarts: bool


def read_header(data: bytes) -> Header | None:
    """Goes through the segments in front of the compressed data.

    Args:
      data: a file.

    Returns:
      The header; None where this is no JPEG file of 8 bits in one scan, or is not
      whole: its last marker has to be there.
    """
    if data[:2] != b"\xff\xd8" or _EOI not in data[-64:]:
        return None
    at, frame, interval, exif = 2, 0, 0, False
    while at + 6 <= len(data):
        if data[at] != 0xFF:
            return None
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if marker in _SOF:
            frame = at
        elif marker == _APP1:
            exif |= data[at + 4 : at + 8] == b"Exif"
        elif marker == _DRI:
            interval = data[at + 4] << 8 | data[at + 5]
        elif marker == _SOS:
            return _header(data, frame, at + 2 + length, interval, exif)
        at += 2 + length
    return None


def _header(
    data: bytes, frame: int, scan_at: int, interval: int, exif: bool
) -> Header | None:
    components = data[frame + 9]
    if not frame or data[frame + 4] != 8 or components not in (1, 3, 4):
        return None
    sampling = [data[frame + 11 + 3 * k] for k in range(components)]
    # The blocks of a single component are of 8x8 whatever its sampling says.
    across = max(s >> 4 for s in sampling) if components > 1 else 1
    down = max(s & 15 for s in sampling) if components > 1 else 1
    height = data[frame + 5] << 8 | data[frame + 6]
    width = data[frame + 7] << 8 | data[frame + 8]
    if scan_at >= len(data) or 0 in (height, width):
        return None
    if not all(s >> 4 and s & 15 for s in sampling):
        return None
    return Header(
        height=height,
        width=width,
        components=components,
        sequential=data[frame + 1] in _SOF_BASELINE,
        exif=exif,
        height_at=frame + 5,
        scan_at=scan_at,
        block_rows=8 * down,
        restarts=interval == -(-width // (8 * across)),
    )


def cut(data: bytes, header: Header, top: int, bottom: int) -> tuple[bytes, int]:
    """A file with rows `top` to `bottom` and as little else as can be.

    Args:
      data: a sequential file.
      header: its header.
      top: first row that is wanted.
      bottom: the row after the last that is wanted.

    Returns:
      The smaller file, and which row of it is row `top`.
    """
    # Chroma of half the resolution is interpolated with that of the next rows.
    first, end = max(top - 2, 0), min(bottom + 2, header.height)
    if header.restarts:
        found = _block_rows(
            data, header, first // header.block_rows, -(-end // header.block_rows)
        )
        if found is not None:
            begin = first // header.block_rows * header.block_rows
            return _with_height(data, header, end - begin, found), top - begin
    return _with_height(data, header, end, data[header.scan_at :]), top


def _with_height(data: bytes, header: Header, height: int, scan: bytes) -> bytes:
    at = header.height_at
    start = data[at + 2 : header.scan_at]
    return b"".join((data[:at], height.to_bytes(2, "big"), start, scan))


def _block_rows(data: bytes, header: Header, first: int, end: int) -> bytes | None:
    """The compressed data of some rows of blocks; None where a marker is missing."""
    starts, at = [header.scan_at], header.scan_at
    for number in range(min(end, -(-header.height // header.block_rows) - 1)):
        at = data.find(bytes((0xFF, 0xD0 + number % 8)), at)
        if at < 0:
            return None
        at += 2
        starts.append(at)
    if len(starts) == end:  # the last row of blocks has no restart marker
        starts.append(len(data))
    rows = bytearray(data[starts[first] : starts[end]])
    for number in range(end - first - 1):
        rows[starts[first + number + 1] - 1 - starts[first]] = 0xD0 + number % 8
    # The marker at the end becomes that of the end of the image.
    rows[-2:] = _EOI if starts[end] < len(data) else rows[-2:]
    return bytes(rows)
