"""Turns stored images into pixels: the part of the work that the host does."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.images import MAX_PIXELS, decode
from clonalnet_jax.data.keys import check_channels
from clonalnet_jax.data.transforms import eval_transform, train_transform


@dataclasses.dataclass(frozen=True)
class Reader:
    """Decodes and, where a size is set, crops and resizes; see `configs/default.py`.

    Attributes:
      channels: 1 for grey, 3 for RGB.
      size: Side of the square image in pixels; None leaves images as they are.
      resize_size: Length to which evaluation resizes the shorter side before it crops.
      scale: Range of a training crop's share of the area.
      ratio: Range of its width over its height.
      interpolation: `bilinear` or `bicubic`, with antialiasing.
      color_jitter: Strengths of brightness, contrast, saturation and hue.
      rand_augment_layers: Number of RandAugment's operations.
      rand_augment_magnitude: Their magnitude, 0 to 30.
      max_pixels: Files with more pixels than this are refused.
    """

    channels: int = 3
    size: int | None = None
    resize_size: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    rand_augment_layers: int = 0
    rand_augment_magnitude: int = 9
    max_pixels: int = MAX_PIXELS

    def __call__(
        self, image: bytes | np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """Reads one image.

        Args:
          image: An encoded file, or pixels uint8 `[h, w, c]`.
          rng: The generator of the augmentation; None for evaluation.

        Returns:
          Pixels, uint8 `[h, w, c]`.

        Raises:
          BadImageError: It cannot be decoded, or has too many pixels.
        """
        if self.size is None:
            if isinstance(image, bytes):
                return decode(image, channels=self.channels, max_pixels=self.max_pixels)
            return image
        if rng is None:
            return eval_transform(
                image,
                size=self.size,
                resize_size=self.resize_size,
                interpolation=self.interpolation,
                channels=self.channels,
                max_pixels=self.max_pixels,
            )
        return train_transform(
            image,
            rng,
            size=self.size,
            scale=self.scale,
            ratio=self.ratio,
            interpolation=self.interpolation,
            color_jitter=self.color_jitter,
            rand_augment_layers=self.rand_augment_layers,
            rand_augment_magnitude=self.rand_augment_magnitude,
            channels=self.channels,
            max_pixels=self.max_pixels,
        )


def make_reader(config: ConfigDict, *, channels: int) -> Reader:
    """The reader that a config describes.

    Args:
      config: The part `data` of a config.
      channels: Channels of the images, 1 or 3.

    Returns:
      The reader.

    Raises:
      UserError: The normalisation is that of another number of channels.
    """
    check_channels(config, channels)
    if config.image_size is None:
        return Reader(channels, max_pixels=config.max_pixels)
    return Reader(
        channels=channels,
        size=config.image_size,
        resize_size=config.resize_size or round(config.image_size * 256 / 224),
        scale=tuple(config.crop_scale),
        ratio=tuple(config.crop_ratio),
        interpolation=config.interpolation,
        color_jitter=tuple(config.color_jitter),
        rand_augment_layers=config.rand_augment_layers,
        rand_augment_magnitude=config.rand_augment_magnitude,
        max_pixels=config.max_pixels,
    )
