"""The one EXIF field that changes pixels: how the camera was turned."""

import struct

from PIL import Image

_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The types of a field that may hold it: EXIF asks for the second.
_UNSIGNED = {1: "B", 3: "H", 4: "I"}


def read_orientation(exif: bytes) -> int:
    """Finds the orientation in EXIF data (EXIF 2.32, section 4.6.4).

    Only this field is read. Cameras and editors write others that are malformed, and a
    library that reads or writes them all fails on these.

    Args:
      exif: The EXIF data, with or without the mark `Exif` in front; may be empty.

    Returns:
      1 to 8; 1, which is upright, where the data do not say it.
    """
    body = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(body[:4])
    try:
        if order is None:
            return 1
        (first,) = struct.unpack_from(f"{order}I", body, 4)
        (count,) = struct.unpack_from(f"{order}H", body, first)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", body, at)
            if tag == _TAG and values == 1 and kind in _UNSIGNED:
                (value,) = struct.unpack_from(f"{order}{_UNSIGNED[kind]}", body, at + 8)
                return value if value in _TRANSPOSES else 1
    except struct.error:  # the data end before they should
        return 1
    return 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undoes an orientation.

    Args:
      image: The image as it is stored.
      orientation: 1 to 8, as EXIF counts them.

    Returns:
      The upright image; the same object where there is nothing to do.
    """
    if orientation not in _TRANSPOSES:
        return image
    return image.transpose(_TRANSPOSES[orientation])
