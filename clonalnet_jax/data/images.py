"""Placeholder of the branch `transforms`."""

import io

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


class BadImageError(ValueError):
    """An image that cannot be decoded."""


def decode(encoded: bytes, *, channels: int = 3) -> np.ndarray:
    """Decodes an image file."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
            return pixels.reshape(*pixels.shape[:2], channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(f"{type(error).__name__}: {error}") from error
