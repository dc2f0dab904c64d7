"""Image files of many kinds, damaged in many ways; what reading one may come to.

`make_files` makes the files, `damage` spoils one, and `outcome` reads it. Whatever it
is given, reading ends in pixels or in `BadImageError`: any other exception goes
through, for the caller to report. `python tests/data/image_faults.py COUNT SEED` prints
a count of the outcomes, and the most memory that was taken in mebibytes.
"""

import collections
import functools
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from clonalnet_jax.data.images import BadImageError, Rows, decode

MAX_PIXELS = 300_000
_SIDE = (37, 53)  # height and width; neither is a multiple of a block


def make_files() -> dict[str, bytes]:
    """One file for each format and mode that is read, and some that are not.

    Returns:
      The files by their names; at least twenty.
    """
    Image.init()
    files = {}
    for name, (mode, format, options) in _KINDS.items():
        if format not in Image.SAVE:  # AVIF came with Pillow 11.3
            continue
        file = io.BytesIO()
        picture(mode).save(file, format, **options)
        files[name] = file.getvalue()
    files["16-bit grey PNG"] = _encode(_wide(np.uint16), "PNG")
    files["16-bit grey TIFF"] = _encode(_wide(np.uint16), "TIFF")
    files["16-bit grey PPM"] = _encode(_wide(np.int32), "PPM")
    files["float TIFF"] = _encode(_wide(np.float32), "TIFF")
    files["32-bit TIFF"] = _encode(_wide(np.int32), "TIFF")
    return files


def picture(mode: str = "RGB") -> Image.Image:
    """A synthetic picture of bands and noise."""
    height, width = _SIDE
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(size=(height, width, 3)) * 8
    bands = np.stack([2 * x, 3 * y, 255 - 2 * x], axis=-1) + noise
    return Image.fromarray(np.clip(bands, 0, 255).astype(np.uint8)).convert(mode)


def damage(encoded: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Spoils a file in a way that is drawn.

    Args:
      encoded: The file.
      rng: Draws the way and the places.

    Returns:
      The name of the way, and the spoiled file.
    """
    ways = list(_DAMAGES.items())
    name, way = ways[rng.integers(len(ways))]
    return name, way(encoded, rng)


def outcome(encoded: bytes, *, channels: int = 3) -> str:
    """Reads a file as evaluation and as training do.

    Args:
      encoded: The file.
      channels: 3 for RGB, 1 for grey.

    Returns:
      `pixels`, `refused`, or `part`: rows of it can be decoded, the whole cannot.

    Raises:
      AssertionError: The rows of a crop are not those of the whole image.
    """
    options = {"channels": channels, "max_pixels": MAX_PIXELS}
    whole = _read(lambda: decode(encoded, **options))
    rows = _read(lambda: _middle(Rows(encoded, **options)))
    if whole is None:
        return "refused" if rows is None else "part"
    assert rows is not None, "the whole image can be decoded, and a part cannot"
    top, part = rows
    assert whole.dtype == part.dtype == np.uint8
    np.testing.assert_array_equal(part, whole[top : top + len(part)])
    return "pixels"


def attempts(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Draws damaged files, of every kind in turn.

    Args:
      count: How many to draw.
      seed: The seed of all that is random.

    Yields:
      Kind of file, kind of damage, and the file.
    """
    files = list(make_files().items())
    for number in range(count):
        kind, encoded = files[number % len(files)]
        yield kind, *damage(encoded, np.random.default_rng((seed, number)))


def main(count: int, seed: int) -> None:
    """Reads damaged files and prints the outcomes; a traceback is a fault found."""
    found: collections.Counter[str] = collections.Counter()
    for number, (kind, way, encoded) in enumerate(attempts(count, seed)):
        print(f"{number}: {kind}, {way}", file=sys.stderr, flush=True)
        found[outcome(encoded, channels=(3, 1)[number % 7 == 0])] += 1
    print(*(f"{name}={found[name]}" for name in ("pixels", "refused", "part")), _peak())


def _peak() -> int:
    """The most memory that this process has held, MiB.

    `ru_maxrss` would begin with that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def _middle(rows: Rows) -> tuple[int, np.ndarray]:
    top = rows.height // 3
    return top, rows.decode(top, max(rows.height // 2, top + 1))


def _read(read: Callable[[], object]):
    try:
        return read()
    except BadImageError:
        return None


def _encode(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def _wide(dtype: type) -> Image.Image:
    values = np.linspace(0, 65535, _SIDE[0] * _SIDE[1]).reshape(_SIDE)
    return Image.fromarray(values.astype(dtype))


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


_ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", _SIDE[::-1], "red")]}
_KINDS = {
    "JPEG": ("RGB", "JPEG", {}),
    "grey JPEG": ("L", "JPEG", {}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "JPEG with restarts": ("RGB", "JPEG", {"restart_marker_rows": 1}),
    "rotated JPEG": ("RGB", "JPEG", {"exif": _turned()}),
    "PNG": ("RGB", "PNG", {}),
    "rotated PNG": ("RGBA", "PNG", {"exif": _turned()}),
    "palette PNG": ("P", "PNG", {"transparency": b"\x00" * 5}),
    "bilevel PNG": ("1", "PNG", {}),
    "grey PNG with alpha": ("LA", "PNG", {}),
    "animated PNG": ("RGB", "PNG", _ANIMATED),
    "WebP": ("RGB", "WEBP", {}),
    "lossless WebP with alpha": ("RGBA", "WEBP", {"lossless": True}),
    "animated WebP": ("RGB", "WEBP", _ANIMATED),
    "BMP": ("RGB", "BMP", {}),
    "palette BMP": ("P", "BMP", {}),
    "GIF": ("P", "GIF", {}),
    "transparent GIF": ("P", "GIF", {"transparency": 3}),
    "animated GIF": ("RGB", "GIF", _ANIMATED),
    "TIFF": ("RGB", "TIFF", {}),
    "TIFF by LZW": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "TIFF by deflate": ("RGBA", "TIFF", {"compression": "tiff_deflate"}),
    "TIFF by JPEG": ("RGB", "TIFF", {"compression": "jpeg"}),
    "CMYK TIFF": ("CMYK", "TIFF", {}),
    "bilevel TIFF": ("1", "TIFF", {"compression": "group4"}),
    "TIFF of pages": ("RGB", "TIFF", _ANIMATED),
    "PPM": ("RGB", "PPM", {}),
    "PBM": ("1", "PPM", {}),
    "AVIF": ("RGB", "AVIF", {"speed": 10}),
    "JPEG 2000": ("RGB", "JPEG2000", {}),
    "Windows icon": ("RGB", "ICO", {}),
    "PostScript": ("RGB", "EPS", {}),
    "Targa": ("RGB", "TGA", {}),
    "PDF": ("RGB", "PDF", {}),
}


def _truncate(encoded: bytes, rng: np.random.Generator) -> bytes:
    return encoded[: rng.integers(len(encoded))]


def _extend(encoded: bytes, rng: np.random.Generator) -> bytes:
    return encoded + rng.bytes(int(rng.integers(1, 400)))


def _flip(encoded: bytes, rng: np.random.Generator, *, within: int = 2**31) -> bytes:
    data = bytearray(encoded)
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(min(len(data), within))] ^= 1 << rng.integers(8)
    return bytes(data)


def _extreme(encoded: bytes, rng: np.random.Generator) -> bytes:
    """Sets up to four bytes of the header to the ends of their range."""
    at = int(rng.integers(min(len(encoded), 200)))
    value = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * int(rng.integers(1, 5))
    return encoded[:at] + value + encoded[at + len(value) :]


def _remove(encoded: bytes, rng: np.random.Generator) -> bytes:
    start, end = np.sort(rng.integers(len(encoded), size=2))
    return encoded[:start] + encoded[end:]


def _repeat(encoded: bytes, rng: np.random.Generator) -> bytes:
    start, end = np.sort(rng.integers(len(encoded), size=2))
    return encoded[:end] + encoded[start:]


def _whole(encoded: bytes, rng: np.random.Generator) -> bytes:
    del rng
    return encoded


_DAMAGES = {
    "whole": _whole,
    "truncated": _truncate,
    "extended": _extend,
    "bits flipped": _flip,
    "bits of the header flipped": functools.partial(_flip, within=100),
    "extreme header": _extreme,
    "bytes removed": _remove,
    "bytes repeated": _repeat,
}

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
