"""Image files of every kind that is read, by Pillow, within one limit on pixels.

Pillow guesses the format from the content and would also hand a PostScript file to
Ghostscript. So the formats that are meant are named, and every other is refused.
"""

import functools
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from clonalnet_jax.data.orientation import read_orientation, turn_upright

# The formats by Pillow's names, and how their files end. The first frame of an
# animation and the first page of a document are what is read.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
}
EXTENSIONS = frozenset(ending for endings in FORMATS.values() for ending in endings)
READABLE = f"a whole image file ({', '.join(FORMATS)})"
"""What a message says was expected of a file."""

MAX_PIXELS = 100_000_000
"""Pixels beyond which an image is refused unless the config says otherwise."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_TILE = 258, 262, (322, 323)


class BadImageError(ValueError):
    """A file that cannot be decoded; the text says why, not which."""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuses an image by the size that its header declares.

    Args:
      width: Pixels.
      height: Pixels.
      max_pixels: The greatest product of the two that is decoded.

    Raises:
      BadImageError: There are more pixels, or none.
    """
    if width < 1 or height < 1:
        raise BadImageError(f"{width}x{height} pixels: there is nothing in it")
    if width * height > max_pixels:
        raise _too_large(f"{width}x{height} pixels", max_pixels)


def decode_any(encoded: bytes, *, channels: int, max_pixels: int) -> np.ndarray:
    """Decodes an image file of any of `FORMATS` and of any colour mode.

    Transparency is dropped: a pixel has the colour that is stored, whatever its alpha.
    16 bits are reduced to 8. Pixels whose range the file does not say, of 32 bits or
    floating-point, are refused.

    Args:
      encoded: The bytes of the file.
      channels: 3 for RGB, 1 for grey.
      max_pixels: More pixels than this are refused before they take memory.

    Returns:
      Pixels, uint8 `[h, w, channels]`, rotated as the file's EXIF data asks.

    Raises:
      BadImageError: It is no such image, or not a whole one.
    """
    _raise_limit_of_pillow(max_pixels)
    try:
        _check_webp(encoded, max_pixels)
        with Image.open(io.BytesIO(encoded), formats=_formats()) as image:
            check_pixels(*image.size, max_pixels)
            _check_tiles(image, max_pixels)
            image.load()
            pixels = np.asarray(_eight_bits(image, channels))
            orientation = read_orientation(_exif(image))
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(
            f"not one of {', '.join(_formats())}, or its header is damaged"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        size = (
            str(error).partition("(")[2].partition(" pixels")[0]
        )  # Pillow's own limit
        raise _too_large(f"{int(size):,} pixels", max_pixels) from error
    except Exception as error:  # whatever the bytes lead one of its readers to
        text = str(error).split(" <_io.BytesIO")[0]
        raise BadImageError(f"{type(error).__name__}: {text}") from error
    return turn_upright(pixels.reshape(*pixels.shape[:2], channels), orientation)


def _too_large(size: str, max_pixels: int) -> BadImageError:
    return BadImageError(
        f"{size}, which is more than config.data.max_pixels = {max_pixels:,}"
    )


@functools.lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow knows: AVIF came with 11.3."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _raise_limit_of_pillow(max_pixels: int) -> None:
    """Lets Pillow decode what `max_pixels` allows: it has a limit of its own."""
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)


def _check_webp(encoded: bytes, max_pixels: int) -> None:
    """Reads the size of a WebP file (RFC 9649): opening it takes memory for it."""
    if encoded[:4] != b"RIFF" or encoded[8:12] != b"WEBP" or len(encoded) < 30:
        return
    kind, word = encoded[12:16], functools.partial(int.from_bytes, byteorder="little")
    if kind == b"VP8X":
        width, height = word(encoded[24:27]) + 1, word(encoded[27:30]) + 1
    elif kind == b"VP8L":
        bits = word(encoded[21:25])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (word(encoded[at : at + 2]) & 0x3FFF for at in (26, 28))
    else:
        return
    check_pixels(width, height, max_pixels)


def _check_tiles(image: Image.Image, max_pixels: int) -> None:
    """A tile of a TIFF file may be larger than the image, and is decoded whole."""
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        width, height = (tags.get(tag, 1) for tag in _TIFF_TILE)
        check_pixels(width, height, max_pixels)


def _exif(image: Image.Image) -> bytes:
    """The EXIF data of an image that is loaded; of a TIFF file Pillow saw to it."""
    exif = image.info.get("exif", b"")
    if not exif and isinstance(profile := image.info.get("Raw profile type exif"), str):
        # ImageMagick's way for PNG files: three lines, then hexadecimal digits.
        try:
            exif = bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            return b""
    return exif if isinstance(exif, bytes) else b""


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """RGB or grey of any mode."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise BadImageError(
            f"{image.format} with pixels of 32 bits, whose range it does not say; "
            "save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        image = _from_sixteen_bits(image)
    # Pillow asks for the way by RGBA of palettes with transparency, and it knows no
    # other of premultiplied colours.
    if "transparency" in image.info or image.mode in ("RGBa", "PA"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB" if channels == 3 else "L")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Grey of 8 bits; Pillow's own conversion cuts 16 bits off at 255."""
    values, tags = np.asarray(image).astype(np.int32), getattr(image, "tag_v2", {})
    white = 4095 if tags.get(_TIFF_BITS) in ((12,), 12) else 65535
    if values.min() < 0 or values.max() > white:
        raise BadImageError(
            f"pixels from {values.min()} to {values.max()}, and not 0 to {white}"
        )
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero
        values = white - values
    return Image.fromarray((values * 255 // white).astype(np.uint8))
