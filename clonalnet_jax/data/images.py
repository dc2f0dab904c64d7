"""Image files to pixels: RGB or grey, upright, and no more rows than are asked for."""

import io

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from clonalnet_jax.data import jpeg

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_ORIENTATION = 0x0112
_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)


class BadImageError(ValueError):
    """A file that cannot be decoded; the text says why, not which."""


def decode(encoded: bytes, *, channels: int = 3) -> np.ndarray:
    """Decodes a JPEG, PNG, WebP or BMP file of any colour mode.

    Ordinary JPEG files go to libjpeg-turbo directly, with the pixels that Pillow gives;
    everything else goes to Pillow.

    Args:
      encoded: the bytes of the file.
      channels: 3 for RGB, 1 for grey.

    Returns:
      Pixels, uint8 `[h, w, channels]`, rotated as the file's EXIF data asks.

    Raises:
      BadImageError: it is no image, or not a whole one.
    """
    header = _plain_header(encoded, channels)
    if header is not None:
        try:
            return _decode_plain(encoded, channels)
        except ValueError:
            pass  # Pillow says what is wrong, or puts up with it
    return _decode_any(encoded, channels)


class Rows:
    """An image whose rows are decoded once it is known which are wanted.

    Attributes:
      height: pixels.
      width: pixels.
    """

    def __init__(self, image: bytes | np.ndarray, *, channels: int = 3) -> None:
        """Looks at the header; decodes at once what cannot be decoded in part.

        Args:
          image: a file, or pixels uint8 `[h, w, channels]`.
          channels: 3 for RGB, 1 for grey.

        Raises:
          BadImageError: it is no image, or not a whole one.
        """
        self._channels = channels
        self._header: jpeg.Header | None = None
        if isinstance(image, np.ndarray):
            self._pixels, self._encoded = image, b""
        else:
            self._encoded = image
            header = _plain_header(image, channels)
            if header is not None and header.sequential:
                self._header = header
            else:
                self._pixels = decode(image, channels=channels)
        if self._header is not None:
            self.height, self.width = self._header.height, self._header.width
        else:
            self.height, self.width = self._pixels.shape[:2]

    def decode(self, top: int, bottom: int) -> np.ndarray:
        """Rows `top` to `bottom`, with the pixels that they have in the whole image.

        Args:
          top: first row.
          bottom: the row after the last.

        Returns:
          Pixels, uint8 `[bottom - top, width, channels]`.

        Raises:
          BadImageError: they cannot be decoded.
        """
        if self._header is not None:
            part, first = jpeg.cut(self._encoded, self._header, top, bottom)
            try:
                # Not strict: what follows the rows is too much of the file, as it
                # should be. That the file goes to its end, its header has shown.
                pixels = _decode_plain(part, self._channels, strict=False)
                return pixels[first : first + bottom - top]
            except ValueError:
                self._header = None
                self._pixels = decode(self._encoded, channels=self._channels)
        return self._pixels[top:bottom]


def _plain_header(encoded: bytes, channels: int) -> jpeg.Header | None:
    """The header of a JPEG file that needs nothing but decoding; else None."""
    header = jpeg.read_header(encoded)
    if header is None or header.components not in (1, channels):
        return None
    if header.exif and _is_rotated(encoded):
        return None
    return header


def _is_rotated(encoded: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.getexif().get(_ORIENTATION, 1) != 1
    except _ERRORS:
        return True


def _decode_plain(encoded: bytes, channels: int, *, strict: bool = True) -> np.ndarray:
    colorspace = "RGB" if channels == 3 else "GRAY"
    pixels = simplejpeg.decode_jpeg(encoded, colorspace, strict=strict)
    return pixels.reshape(*pixels.shape[:2], channels)


def _decode_any(encoded: bytes, channels: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            upright: Image.Image = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                # Pillow's own conversion cuts 16 bits off at 255.
                upright = Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
            if "transparency" in upright.info:
                upright = upright.convert("RGBA")  # as Pillow asks, of a palette
            pixels = np.asarray(upright.convert("RGB" if channels == 3 else "L"))
    except _ERRORS as error:
        text = str(error).split(" <_io.BytesIO")[0]
        raise BadImageError(f"{type(error).__name__}: {text}") from error
    return pixels.reshape(*pixels.shape[:2], channels)
