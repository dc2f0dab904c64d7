"""Cuts JPEG files to the rows that are needed.

libjpeg can decode the first rows of an image and stop, and a file with a restart marker
after every row of blocks can be cut to the rows that are wanted; no Python package
offers either. Both are a matter of a few bytes of the header (ITU-T T.81, annex B): the
file that comes out is a JPEG of fewer rows, to be decoded as any other.
"""

import re
from typing import NamedTuple

_SOF_BASELINE = (0xC0, 0xC1)  # Huffman-coded, sequential; rows come in their order
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone, without the two bytes of a length.
_ALONE = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
_EXIF, _DRI, _SOS, _EOI = 0xE1, 0xDD, 0xDA, b"\xff\xd9"
# In compressed data, in which a zero follows every other 0xFF.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")


class Header(NamedTuple):
    """The part of a header that is needed here.

    Attributes:
      height: Pixels.
      width: Pixels.
      components: 1 for grey, 3 for colour, 4 for CMYK.
      sequential: Whether it is certain that the rows are stored one after the other,
        each whole: coded by Huffman's method, in a single scan of all components.
      exif: The EXIF data, which may ask for a rotation; empty where there are none.
      height_at: Offset of the two bytes of the height.
      scan_at: Offset of the compressed data.
      block_rows: Height of a row of blocks in pixels.
      restarts: Whether every row of blocks ends in a restart marker.
    """

    height: int
    width: int
    components: int
    sequential: bool
    exif: bytes
    height_at: int
    scan_at: int
    block_rows: int
    restarts: bool


def read_header(data: bytes) -> Header | None:
    """Goes through the segments in front of the compressed data.

    Args:
      data: A file.

    Returns:
      The header; None where this is no ordinary JPEG file of 8 bits, or is not whole:
      its last marker has to be there.
    """
    if data[:2] != b"\xff\xd8" or _EOI not in data[-64:]:
        return None
    at, frame, interval, exif = 2, b"", 0, b""
    frame_at = 0
    while at + 6 <= len(data):
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if data[at] != 0xFF or marker in _ALONE or length < 2:
            return None
        segment = data[at + 4 : at + 2 + length]
        if marker in _SOF:
            if frame:
                return None
            frame, frame_at = data[at : at + 2 + length], at
        elif marker == _EXIF and segment[:4] == b"Exif":
            exif = exif or segment
        elif marker == _DRI:
            interval = int.from_bytes(segment, "big")
        elif marker == _SOS:
            scan_at = at + 2 + length
            return _header(frame, frame_at, segment, scan_at, interval, exif)
        at += 2 + length
    return None


def _header(
    frame: bytes, frame_at: int, scan: bytes, scan_at: int, interval: int, exif: bytes
) -> Header | None:
    """Puts a header together; None where a segment is not what it has to be."""
    components = frame[9] if len(frame) > 9 else 0
    if components not in (1, 3, 4) or len(frame) != 10 + 3 * components:
        return None
    height, width = frame[5] << 8 | frame[6], frame[7] << 8 | frame[8]
    sampling = frame[11::3]
    if frame[4] != 8 or 0 in (height, width):
        return None
    if not all(s >> 4 and s & 15 for s in sampling):
        return None
    # In a scan of one component, blocks are 8x8 pixels whatever its sampling says.
    across = max(s >> 4 for s in sampling) if components > 1 else 1
    down = max(s & 15 for s in sampling) if components > 1 else 1
    return Header(
        height=height,
        width=width,
        components=components,
        sequential=frame[1] in _SOF_BASELINE and _is_only_scan(frame, scan),
        exif=exif,
        height_at=frame_at + 5,
        scan_at=scan_at,
        block_rows=8 * down,
        restarts=interval == -(-width // (8 * across)),
    )


def _is_only_scan(frame: bytes, scan: bytes) -> bool:
    """Whether a scan holds all components of the frame, and all of their bits."""
    count = frame[9]
    names = frame[10::3]
    return (
        len(scan) == 4 + 2 * count
        and scan[0] == count
        and scan[1 : 1 + 2 * count : 2] == names
        and len(set(names)) == count
        and scan[-3:] == bytes((0, 63, 0))
    )


def cut(data: bytes, header: Header, top: int, bottom: int) -> tuple[bytes, int]:
    """A file with rows `top` to `bottom` and as little else as can be.

    Args:
      data: A sequential file.
      header: Its header.
      top: The first row that is wanted.
      bottom: The row after the last that is wanted.

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
    """The compressed data of some rows of blocks; None if a marker is out of turn."""
    starts, last = [header.scan_at], -(-header.height // header.block_rows) - 1
    for number, marker in zip(
        range(end), _MARKER.finditer(data, header.scan_at), strict=False
    ):
        if marker[1] != (_restart(number) if number < last else _EOI[1:]):
            return None
        starts.append(marker.end())
    if len(starts) <= end:
        return None
    rows = bytearray(data[starts[first] : starts[end]])
    for number, at in enumerate(starts[first + 1 : end]):
        rows[at - 1 - starts[first]] = _restart(number)[0]
    # The marker at the end becomes that of the end of the image.
    rows[-2:] = _EOI
    return bytes(rows)


def _restart(number: int) -> bytes:
    """The second byte of a restart marker: they count to eight, again and again."""
    return bytes((0xD0 + number % 8,))
