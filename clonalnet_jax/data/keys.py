"""What each key of `config.data` may hold, and which of them do not go together."""

from ml_collections import ConfigDict

from clonalnet_jax.data.openers import OPENERS
from clonalnet_jax.data.photometric import BINS
from clonalnet_jax.data.transforms import INTERPOLATIONS
from clonalnet_jax.errors import UserError
from clonalnet_jax.rules import (
    Rule,
    check_table,
    choice,
    count_or_share,
    flag,
    number,
    several,
    text,
    whole,
)

# Small enough that `seed + compare.seeds` is an int32, and that NumPy takes twice it.
SEED = whole(0, 2_000_000_000, example=0)

_SIDE = 16_384  # In pixels. A batch of larger images fits into no memory.
_PARALLEL = 1_024  # Threads or processes. Operating systems refuse many more.
_OF_PIXELS = ", of pixels in [0, 1]; divide those of pixels up to 255 by 255"

RULES: dict[str, Rule] = {
    "source": choice(OPENERS),
    "name": text("cifar10", optional=True),
    "path": text("/path/to/images", optional=True),
    "class_file": text("/path/to/classes.txt", optional=True),
    # An empty name says that the folders of the path are the classes.
    "train_split": text("train", empty=True),
    "test_split": text("test"),
    "test_fraction": number(above=0, below=1, example=0.2),
    "split_seed": SEED,
    "examples_per_class": whole(0, example=0),
    "holdout": count_or_share(example=0.02),
    "test_on": choice(("test", "holdout")),
    "on_error": choice(("raise", "skip")),
    "max_pixels": whole(1, example=100_000_000),
    "on_device": flag(optional=True),
    "threads": whole(1, _PARALLEL, example=8, optional=True),
    "workers": whole(0, _PARALLEL, example=0),
    "image_size": whole(1, _SIDE, example=224, optional=True),
    "resize_size": whole(1, 2 * _SIDE, example=256, optional=True),
    "crop_scale": several(
        number(above=0, most=1, example=1.0),
        lengths=(2,),
        ascending=True,
        example=(0.08, 1.0),
    ),
    "crop_ratio": several(
        number(least=0.01, most=100, example=1.0),
        lengths=(2,),
        ascending=True,
        example=(0.75, 1.33),
    ),
    "interpolation": choice(INTERPOLATIONS),
    "color_jitter": several(
        number(least=0, most=10, example=0.4),
        lengths=(4,),
        example=(0.4, 0.4, 0.4, 0.1),
    ),
    "rand_augment_layers": whole(0, 100, example=2),
    "rand_augment_magnitude": whole(0, BINS - 1, example=9),
    "like_weights": flag(),
    "mean": several(
        number(least=0, most=1, example=0.5, note=_OF_PIXELS),
        lengths=(1, 3),
        example=(0.5,),
    ),
    "std": several(
        number(least=0.001, most=1, example=0.25, note=_OF_PIXELS),
        lengths=(1, 3),
        example=(0.25,),
    ),
    "crop_padding": whole(0, _SIDE, example=4),
    "flip": flag(),
    "cutout": whole(0, _SIDE, example=16),
    "mixup_alpha": number(least=0, most=1_000, example=0.2),
    "cutmix_alpha": number(least=0, most=1_000, example=1.0),
    "synthetic": flag(),
    "synthetic_shape": several(
        whole(1, _SIDE, example=32), lengths=(3,), example=(32, 32, 3)
    ),
    "synthetic_classes": whole(2, 1_000_000, example=10),
    "synthetic_examples": whole(1, example=512),
}
"""The rule of every key of `config.data`."""


def check_data(config: ConfigDict) -> None:
    """Refuses a `config.data` that is impossible whatever the data set holds.

    Args:
      config: The section `config.data`.

    Raises:
      UserError: A value is impossible, or two of them do not go together.
    """
    check_table(config, RULES, name="config.data")
    _check_sizes(config)
    if config.color_jitter[3] > 0.5:
        raise UserError(
            "config.data.color_jitter",
            got=f"a hue of {config.color_jitter[3]}",
            expected="at most half a turn, 0.5, as the last of the four",
            remedy='--config.data.color_jitter="(0.4, 0.4, 0.4, 0.1)"',
        )
    if config.synthetic_shape[2] not in (1, 3):
        raise UserError(
            "config.data.synthetic_shape",
            got=f"{config.synthetic_shape[2]} channels",
            expected="1 (grey) or 3 (colour) channels, after height and width",
            remedy='--config.data.synthetic_shape="(32, 32, 3)"',
        )
    if config.train_split == config.test_split and not config.synthetic:
        raise UserError(
            "config.data.test_split",
            got=f"{config.test_split!r}, which is config.data.train_split, too",
            expected="other images than those that are trained on",
            remedy="name another split, or parts such as train[:90%] and train[90%:] "
            "of a TFDS data set",
        )


def check_channels(config: ConfigDict, channels: int) -> None:
    """Refuses a normalisation for another number of channels than the images have.

    Args:
      config: The section `config.data`.
      channels: Channels of the images, 1 or 3.

    Raises:
      UserError: `mean` or `std` has neither one value nor one for each channel.
    """
    for key in ("mean", "std"):
        if len(config[key]) not in (1, channels):
            raise UserError(
                f"config.data.{key}",
                got=f"{len(config[key])} values for images of {channels} channel(s)",
                expected=f"{channels} or 1" if channels > 1 else "1 value",
                remedy=f'--config.data.{key}="{RULES[key].example}", for example',
            )


def check_image_shape(config: ConfigDict, shape: tuple[int, int, int]) -> None:
    """Refuses an augmentation that would leave nothing of some images.

    Args:
      config: The section `config.data`.
      shape: Height, width and channels of the images.

    Raises:
      UserError: `crop_padding` or `cutout` is too large for the images.
    """
    side = min(shape[:2])
    for key, most in (("crop_padding", side - 1), ("cutout", side)):
        if config[key] > most:
            raise UserError(
                f"config.data.{key}",
                got=f"{config[key]} for images of {shape[1]}x{shape[0]} pixels",
                expected=f"at most {most}, so that something is left of every image",
                remedy=f"set a smaller --config.data.{key}",
            )


def _check_sizes(config: ConfigDict) -> None:
    """Refuses keys that exclude an image size, and those that need one without it."""
    size = config.image_size
    if size is None and (any(config.color_jitter) or config.rand_augment_layers):
        raise UserError(
            "config.data.image_size",
            got="not set, with color_jitter or rand_augment_layers",
            expected="the size of the images: these two work on the host, after "
            "a random-resized crop",
            remedy="set --config.data.image_size, or leave them out",
        )
    if size is not None and config.on_device:
        raise UserError(
            "config.data.on_device",
            got=f"True with config.data.image_size = {size}",
            expected="images that are used as they are: random-resized crops need the "
            "whole files, on the host",
            remedy="leave out one of the two",
        )
    resize = config.resize_size
    if resize is not None and (size is None or resize < size):
        raise UserError(
            "config.data.resize_size",
            got=f"{resize} with config.data.image_size = {size}",
            expected="at least config.data.image_size, which is cut out of it",
            remedy="leave it out for 256/224 of the size"
            if size
            else "set --config.data.image_size, too",
        )
