"""Encodes images again, smaller, so that training has less to decode each time."""

import io

from PIL import Image

from clonalnet_jax.data.images import decode


def reencode(encoded: bytes, shorter_side: int, quality: int) -> bytes:
    """A JPEG file of at most the given shorter side.

    Larger images are reduced by an antialiased bicubic filter; every image is brought
    upright and to RGB. Each row of blocks ends in a restart marker, at which a decoder
    that wants a few rows can start; any other passes over them.

    Args:
      encoded: An image file.
      shorter_side: Greatest length of the shorter side in pixels.
      quality: Quality of the JPEG file, 1 to 95.

    Returns:
      The file.

    Raises:
      BadImageError: The image cannot be decoded.
    """
    image = Image.fromarray(decode(encoded))
    factor = shorter_side / min(image.size)
    if factor < 1:
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, restart_marker_rows=1)
    return file.getvalue()
