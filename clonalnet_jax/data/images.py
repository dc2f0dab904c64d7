"""Decodes image files: RGB or grey, upright, and only the rows that are needed."""

import numpy as np
import simplejpeg

from clonalnet_jax.data import jpeg
from clonalnet_jax.data.formats import (
    EXTENSIONS,
    MAX_PIXELS,
    READABLE,
    BadImageError,
    check_pixels,
    decode_any,
)
from clonalnet_jax.data.orientation import read_orientation, turn_upright

__all__ = ["EXTENSIONS", "MAX_PIXELS", "READABLE", "BadImageError", "Rows", "decode"]


def decode(
    encoded: bytes, *, channels: int = 3, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decodes an image file of any of `formats.FORMATS` and of any colour mode.

    Ordinary JPEG files go to libjpeg-turbo directly, with the pixels that Pillow gives;
    everything else goes to Pillow.

    Args:
      encoded: The bytes of the file.
      channels: 3 for RGB, 1 for grey.
      max_pixels: More pixels than this are refused before they take memory.

    Returns:
      Pixels, uint8 `[h, w, channels]`, rotated as the file's EXIF data asks.

    Raises:
      BadImageError: It is no image, not a whole one, or too large.
    """
    header = _plain_header(encoded, channels, max_pixels)
    if header is not None:
        try:
            pixels = _decode_plain(encoded, channels)
            return turn_upright(pixels, read_orientation(header.exif))
        except ValueError:
            pass  # Pillow says what is wrong, or puts up with it
    return decode_any(encoded, channels=channels, max_pixels=max_pixels)


class Rows:
    """An image whose rows are decoded once it is known which are wanted.

    Attributes:
      height: Height of the upright image in pixels.
      width: Its width.
    """

    def __init__(
        self,
        image: bytes | np.ndarray,
        *,
        channels: int = 3,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Looks at the header; decodes at once what cannot be decoded in part.

        Args:
          image: A file, or pixels uint8 `[h, w, channels]`.
          channels: 3 for RGB, 1 for grey.
          max_pixels: A file with more pixels than this is refused.

        Raises:
          BadImageError: It is no image, not a whole one, or too large.
        """
        self._channels, self._max_pixels = channels, max_pixels
        self._header: jpeg.Header | None = None
        if isinstance(image, np.ndarray):
            self._pixels, self._encoded = image, b""
        else:
            self._encoded = image
            header = _plain_header(image, channels, max_pixels)
            if header is not None and _rows_are_known(header):
                self._header = header
            else:
                self._pixels = self._decode_whole()
        if self._header is not None:
            self.height, self.width = self._header.height, self._header.width
        else:
            self.height, self.width = self._pixels.shape[:2]

    def decode(self, top: int, bottom: int) -> np.ndarray:
        """Rows `top` to `bottom`, with the pixels that they have in the whole image.

        Args:
          top: First row.
          bottom: The row after the last.

        Returns:
          Pixels, uint8 `[bottom - top, width, channels]`.

        Raises:
          BadImageError: They cannot be decoded.
        """
        if self._header is not None:
            part, first = jpeg.cut(self._encoded, self._header, top, bottom)
            try:
                # Not strict, since the data of the rows below are still there and would
                # be complained of. `read_header` saw that the file has its end.
                pixels = _decode_plain(part, self._channels, strict=False)
                return pixels[first : first + bottom - top]
            except ValueError:
                self._header = None
                self._pixels = self._decode_whole()
        return self._pixels[top:bottom]

    def _decode_whole(self) -> np.ndarray:
        return decode(
            self._encoded, channels=self._channels, max_pixels=self._max_pixels
        )


def _plain_header(encoded: bytes, channels: int, max_pixels: int) -> jpeg.Header | None:
    """The header of a JPEG file that needs nothing but decoding; else None."""
    header = jpeg.read_header(encoded)
    if header is None or header.components not in (1, channels):
        return None
    check_pixels(header.width, header.height, max_pixels)
    return header


def _rows_are_known(header: jpeg.Header) -> bool:
    """Whether rows of the upright image lie one after the other in the file."""
    return header.sequential and read_orientation(header.exif) == 1


def _decode_plain(encoded: bytes, channels: int, *, strict: bool = True) -> np.ndarray:
    colorspace = "RGB" if channels == 3 else "GRAY"
    pixels = simplejpeg.decode_jpeg(encoded, colorspace, strict=strict)
    return pixels.reshape(*pixels.shape[:2], channels)
