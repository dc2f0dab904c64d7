"""Colour jitter and RandAugment, as torchvision defines them for Pillow images."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

BINS = 31  # of the magnitude


def jitter_color(
    image: Image.Image,
    rng: np.random.Generator,
    strengths: tuple[float, float, float, float],
) -> Image.Image:
    """Torchvision's `ColorJitter`: four changes in random order.

    Args:
      image: An image of mode RGB or L.
      rng: Random numbers.
      strengths: Those of brightness, contrast and saturation, whose factors are drawn
        from `[max(0, 1 - strength), 1 + strength]`, and of hue, whose shift is drawn
        from `[-strength, strength]` turns, at most 0.5.

    Returns:
      An image of the same size and mode.
    """
    if not any(strengths):
        return image
    for change in rng.permutation(4):
        strength = strengths[change]
        if not strength:
            continue
        if change == 3:
            image = shift_hue(image, rng.uniform(-strength, strength))
        else:
            factor = rng.uniform(max(0.0, 1 - strength), 1 + strength)
            image = _ENHANCERS[change](image).enhance(factor)
    return image


def shift_hue(image: Image.Image, turns: float) -> Image.Image:
    """Turns the hue of an RGB image; a grey one has none.

    Args:
      image: An image of mode RGB or L.
      turns: Part of a whole turn, -0.5 to 0.5.

    Returns:
      An image of the same size and mode.
    """
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    shifted = np.asarray(hue) + np.uint8(int(turns * 255) % 256)
    bands = (Image.fromarray(shifted), saturation, value)
    return Image.merge("HSV", bands).convert(image.mode)


class Operation(NamedTuple):
    """One of RandAugment's operations.

    Attributes:
      apply: The operation, `(image, magnitude) -> image`.
      magnitudes: The function that says the strength of each magnitude for an image's
        side in pixels, `(size) -> [31]`; None where there is nothing to set.
      signed: Whether the strength is negative half of the time.
    """

    apply: Callable[[Image.Image, float], Image.Image]
    magnitudes: Callable[[int], np.ndarray] | None
    signed: bool


def rand_augment(
    image: Image.Image, rng: np.random.Generator, layers: int, magnitude: int
) -> Image.Image:
    """RandAugment (Cubuk et al. 2020, arXiv 1909.13719), torchvision's operations.

    Args:
      image: An image of mode RGB or L, square.
      rng: Random numbers.
      layers: Number of operations, each drawn from all with equal chance.
      magnitude: How strong they are, 0 to 30.

    Returns:
      An image of the same size and mode; pixels from outside of it are black.
    """
    for _ in range(layers):
        operation = list(OPERATIONS.values())[rng.integers(len(OPERATIONS))]
        strength = 0.0
        if operation.magnitudes is not None:
            strength = float(operation.magnitudes(image.width)[magnitude])
        if operation.signed and rng.integers(2):
            strength = -strength
        image = operation.apply(image, strength)
    return image


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    # A tuple for the fill, as Pillow wants a value for every band.
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _even(high: float) -> Callable[[int], np.ndarray]:
    return lambda size: np.linspace(0.0, high, BINS)


def _shift(size: int) -> np.ndarray:
    return np.linspace(0.0, 150.0 / 331.0 * size, BINS)


def _bits(size: int) -> np.ndarray:
    return 8 - np.round(np.arange(BINS) / ((BINS - 1) / 4))


def _threshold(size: int) -> np.ndarray:
    return np.linspace(255.0, 0.0, BINS)


def _enhance(
    enhancer: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, strength: enhancer(image).enhance(1.0 + strength)


_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

OPERATIONS = {
    "Identity": Operation(lambda image, _: image, None, False),
    "ShearX": Operation(lambda x, m: _affine(x, 1, m, 0, 0, 1, 0), _even(0.3), True),
    "ShearY": Operation(lambda x, m: _affine(x, 1, 0, 0, m, 1, 0), _even(0.3), True),
    "TranslateX": Operation(
        lambda x, m: _affine(x, 1, 0, -int(m), 0, 1, 0), _shift, True
    ),
    "TranslateY": Operation(
        lambda x, m: _affine(x, 1, 0, 0, 0, 1, -int(m)), _shift, True
    ),
    "Rotate": Operation(lambda x, m: x.rotate(m), _even(30.0), True),
    "Brightness": Operation(_enhance(ImageEnhance.Brightness), _even(0.9), True),
    "Color": Operation(_enhance(ImageEnhance.Color), _even(0.9), True),
    "Contrast": Operation(_enhance(ImageEnhance.Contrast), _even(0.9), True),
    "Sharpness": Operation(_enhance(ImageEnhance.Sharpness), _even(0.9), True),
    "Posterize": Operation(lambda x, m: ImageOps.posterize(x, int(m)), _bits, False),
    "Solarize": Operation(
        lambda x, m: ImageOps.solarize(x, math.ceil(m)), _threshold, False
    ),
    "AutoContrast": Operation(lambda x, _: ImageOps.autocontrast(x), None, False),
    "Equalize": Operation(lambda x, _: ImageOps.equalize(x), None, False),
}
