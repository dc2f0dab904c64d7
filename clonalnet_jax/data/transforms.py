"""Crops and resizes on the host, with torchvision's semantics.

All are pure functions of an image and a random generator, which do the same in any
thread or process. The device mirrors and normalises the images; see `augment`.
"""

import math

import numpy as np
from PIL import Image

from clonalnet_jax.data.images import MAX_PIXELS, Rows
from clonalnet_jax.data.photometric import jitter_color, rand_augment

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Pixels on either side that a filter reads, in pixels of the smaller image.
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
Range = tuple[float, float]


def train_transform(
    image: bytes | np.ndarray,
    rng: np.random.Generator,
    *,
    size: int,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    rand_augment_layers: int = 0,
    rand_augment_magnitude: int = 9,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """A random-resized crop (Szegedy et al. 2015), then jitter and RandAugment.

    Args:
      image: An image file, or pixels uint8 `[h, w, channels]`. Of a file no more rows
        are decoded than the crop has.
      rng: The generator of everything random.
      size: Side of the square result in pixels.
      scale: Range of the crop's share of the area.
      ratio: Range of its width over its height.
      interpolation: `bilinear` or `bicubic`, with antialiasing.
      color_jitter: Four strengths, as `photometric.jitter_color` takes them.
      rand_augment_layers: Number of RandAugment's operations; 0 for none.
      rand_augment_magnitude: Their magnitude; `photometric.rand_augment` says more.
      channels: 1 for grey, 3 for RGB.
      max_pixels: A file with more pixels than this is refused.

    Returns:
      Pixels, uint8 `[size, size, channels]`.

    Raises:
      BadImageError: The file cannot be decoded.
    """
    rows = Rows(image, channels=channels, max_pixels=max_pixels)
    top, left, height, width = crop_box(rng, rows.height, rows.width, scale, ratio)
    crop = rows.decode(top, top + height)[:, left : left + width]
    picture = _to_pillow(crop).resize((size, size), INTERPOLATIONS[interpolation])
    picture = jitter_color(picture, rng, color_jitter)
    picture = rand_augment(picture, rng, rand_augment_layers, rand_augment_magnitude)
    return _to_array(picture, channels)


def eval_transform(
    image: bytes | np.ndarray,
    *,
    size: int,
    resize_size: int,
    interpolation: str = "bilinear",
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Resizes the shorter side and crops the centre, without resizing what is cut off.

    Args:
      image: An image file, or pixels uint8 `[h, w, channels]`.
      size: Side of the square result in pixels; at most `resize_size`.
      resize_size: Length of the shorter side before the crop.
      interpolation: `bilinear` or `bicubic`, with antialiasing.
      channels: 1 for grey, 3 for RGB.
      max_pixels: A file with more pixels than this is refused.

    Returns:
      Pixels, uint8 `[size, size, channels]`.

    Raises:
      BadImageError: The file cannot be decoded.
    """
    rows = Rows(image, channels=channels, max_pixels=max_pixels)
    shorter = min(rows.height, rows.width)
    # torchvision's rounding: down for the longer side, to even for the offset.
    height, width = (
        resize_size * side // shorter for side in (rows.height, rows.width)
    )
    top, left = round((height - size) / 2), round((width - size) / 2)
    down, across = rows.height / height, rows.width / width
    margin = _SUPPORT[interpolation] * max(down, 1.0) + 1
    first = max(math.floor(top * down - margin), 0)
    end = min(math.ceil((top + size) * down + margin), rows.height)
    box = (
        left * across,
        top * down - first,
        (left + size) * across,
        (top + size) * down - first,
    )
    picture = _to_pillow(rows.decode(first, end))
    picture = picture.resize((size, size), INTERPOLATIONS[interpolation], box=box)
    return _to_array(picture, channels)


def crop_box(
    rng: np.random.Generator, height: int, width: int, scale: Range, ratio: Range
) -> tuple[int, int, int, int]:
    """Draws torchvision's `RandomResizedCrop`.

    Args:
      rng: Random numbers.
      height: Height of the image in pixels.
      width: Its width.
      scale: Range of the crop's share of the area, drawn evenly.
      ratio: Range of its width over its height, whose logarithm is drawn evenly.

    Returns:
      `(top, left, height, width)`. After ten draws that do not fit, the largest crop in
      the centre whose ratio is in the range.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(height - h + 1))
            return top, int(rng.integers(width - w + 1)), h, w
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def _to_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _to_array(picture: Image.Image, channels: int) -> np.ndarray:
    return np.asarray(picture).reshape(picture.height, picture.width, channels)
