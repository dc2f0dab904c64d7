"""Crops and resizes on the host, with torchvision's semantics.

Pure functions of an image and a random generator: they work alike in any thread or
process. Mirroring and normalisation are left to the device; see `augment`.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from clonalnet_jax.data.images import decode

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
Box = tuple[int, int, int, int]


def train_transform(
    image: bytes | np.ndarray,
    rng: np.random.Generator,
    *,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    rand_augment_layers: int = 0,
    rand_augment_magnitude: int = 9,
    channels: int = 3,
) -> np.ndarray:
    """Placeholder of the branch `transforms`."""
    del color_jitter, rand_augment_layers, rand_augment_magnitude
    pixels = (
        image if isinstance(image, np.ndarray) else decode(image, channels=channels)
    )
    top, left, height, width = crop_box(rng, *pixels.shape[:2], scale, ratio)
    box = (left, top, left + width, top + height)
    return _resize(pixels, size, box, interpolation)


def eval_transform(
    image: bytes | np.ndarray,
    *,
    size: int,
    resize_size: int,
    interpolation: str = "bilinear",
    channels: int = 3,
) -> np.ndarray:
    """Placeholder of the branch `transforms`."""
    pixels = (
        image if isinstance(image, np.ndarray) else decode(image, channels=channels)
    )
    height, width = pixels.shape[:2]
    factor = min(height, width) / resize_size
    side = size * factor
    top, left = (height - side) / 2, (width - side) / 2
    return _resize(pixels, size, (left, top, left + side, top + side), interpolation)


def _resize(
    pixels: np.ndarray, size: int, box: tuple[float, ...], interpolation: str
) -> np.ndarray:
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    image = image.resize((size, size), _RESAMPLING[interpolation], box=box)
    return np.asarray(image).reshape(size, size, -1)


def crop_box(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
) -> Box:
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(height - h + 1))
            left = int(rng.integers(width - w + 1))
            return top, left, h, w
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w
