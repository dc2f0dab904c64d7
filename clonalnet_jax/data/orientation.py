"""Reads the one EXIF field that changes pixels: how the camera was turned."""

import struct

import numpy as np

_TAG = 0x0112
# For each orientation but 1: whether rows and columns change places, and whether rows
# and columns are then counted from the other end.
_CHANGES = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
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
                return value if value in _CHANGES else 1
    except struct.error:  # the data end before they should
        return 1
    return 1


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an orientation.

    Args:
      pixels: The image as it is stored, `[h, w, c]`.
      orientation: 1 to 8, as EXIF counts them.

    Returns:
      The upright image, `[h, w, c]` or `[w, h, c]`; the same array where there is
      nothing to do.
    """
    if orientation not in _CHANGES:
        return pixels
    swapped, down, across = _CHANGES[orientation]
    turned = pixels.swapaxes(0, 1) if swapped else pixels
    return np.ascontiguousarray(turned[::down, ::across])
