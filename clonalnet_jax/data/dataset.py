"""The data set that a config names: opened, checked, split, and decoded if small."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.class_file import reorder
from clonalnet_jax.data.keys import SEED, check_data, check_image_shape
from clonalnet_jax.data.openers import OPENERS
from clonalnet_jax.data.reader import make_reader
from clonalnet_jax.data.records import Noise, Records, Split
from clonalnet_jax.data.sources import (
    Arrays,
    Images,
    Source,
    UnreadableImageError,
    check_skipped,
    whole_image,
)
from clonalnet_jax.errors import UserError, displayable
from clonalnet_jax.runtime.threads import map_in_threads

# Decoded data sets of up to this size lie on the device, unless the config says
# otherwise. ImageNet-100 at 64 pixels and every CIFAR are small enough.
_ON_DEVICE_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The examples that a run trains on and is judged by.

    Attributes:
      train: Training examples.
      holdout: Part of the training data kept aside to pick a checkpoint; may be empty.
      test: The examples on which every reported figure is measured: the test split's,
        or those held out where `config.data.test_on` says so.
      class_names: Names of the classes, in the order of the labels.
      image_shape: Shape of every image, `(height, width, channels)`.
      notes: Lines that a user should be told: files that are not used or not read.
    """

    train: Source
    holdout: Source
    test: Source
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def open_dataset(config: ConfigDict, *, seed: int) -> Dataset:
    """Opens, checks and splits the data set that `config.data` names.

    Args:
      config: The part `data` of a config.
      seed: The seed of the held-out examples, which depend on nothing else of a run.

    Returns:
      The data set: decoded in memory where `config.on_device` says so or, if that is
      None, where it is small and its images are used as they are.

    Raises:
      UserError: The data set is missing, broken or does not fit the config.
    """
    SEED.check("config.seed", seed)
    train, test = open_splits(config)
    reader = make_reader(config, channels=train.channels)
    images = Images(train.records, _first_per_class(config, train.records), reader)
    kept, held = _hold_out(config, len(images), seed)
    parts = {
        "train": images.take(kept),
        "holdout": images.take(held),
        "test": Images(test.records, np.arange(len(test.records)), reader),
    }
    if config.test_on == "holdout":
        parts |= {"test": parts["holdout"], "holdout": images.take(held[:0])}
    shape = _image_shape(parts["train"], config.on_error)
    check_image_shape(config, shape)
    notes = [*train.notes, *test.notes]
    sources: dict[str, Source] = dict(parts)
    if _on_device(config, shape, sum(map(len, parts.values()))):
        for name, part in parts.items():
            sources[name], skipped = _decode(part, shape, config.on_error)
            notes += skipped
    return Dataset(
        **sources, class_names=train.class_names, image_shape=shape, notes=tuple(notes)
    )


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Opens the training and the test split; no image is decoded.

    Args:
      config: The part `data` of a config.

    Returns:
      Training and test split, of the same classes.

    Raises:
      UserError: The data set is missing or does not fit the config.
    """
    check_data(config)
    if config.synthetic:
        return _synthetic(config)
    splits = OPENERS[config.source](config)
    if config.class_file is None:
        return splits
    return reorder(splits, Path(config.class_file).expanduser())


def _synthetic(config: ConfigDict) -> tuple[Split, Split]:
    shape, count = tuple(config.synthetic_shape), config.synthetic_classes
    names = tuple(f"class {k}" for k in range(count))
    train, test = (
        Split(
            Noise(shape, count, config.synthetic_examples, seed),
            names,
            shape[-1],
            "synthetic images",
        )
        for seed in (0, 1)
    )
    return train, test


def _first_per_class(config: ConfigDict, records: Records) -> np.ndarray:
    """Indices of the first `examples_per_class` of every class; all where it is 0."""
    if not config.examples_per_class:
        return np.arange(len(records))
    labels = records.labels()
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    return np.sort(order[np.arange(len(order)) - starts < config.examples_per_class])


def _hold_out(
    config: ConfigDict, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training examples that are kept and that are held out."""
    count = config.holdout
    count = round(count * size) if 0 < count < 1 else int(count)
    if not 0 <= count < size or (config.test_on == "holdout" and not count):
        raise UserError(
            "config.data.holdout",
            got=str(config.holdout),
            expected=f"0 to {size - 1}: there are {size} training images",
            remedy="a tenth of the training images is usual",
        )
    order = np.random.default_rng(seed).permutation(size)
    return np.sort(order[count:]), np.sort(order[:count])


def _image_shape(images: Images, on_error: str) -> tuple[int, int, int]:
    """Shape of the first image that can be read."""
    for index in range(len(images)):
        try:
            height, width, channels = images[index].image.shape
        except UnreadableImageError:
            if on_error == "raise":
                raise
            continue
        return height, width, channels
    raise UserError(
        "the training images",
        got="none of them can be decoded",
        expected="image files",
        remedy="python -m clonalnet_jax.data.check --config=... looks at each",
    )


def _on_device(config: ConfigDict, shape: tuple[int, int, int], count: int) -> bool:
    if config.on_device is None:
        fits = count * int(np.prod(shape)) <= _ON_DEVICE_BYTES
        return fits and config.image_size is None
    return bool(config.on_device)


def _decode(
    images: Images, shape: tuple[int, int, int], on_error: str
) -> tuple[Arrays, list[str]]:
    """Decodes a source; also gives a line for each image that was skipped."""
    pixels = np.zeros((len(images), *shape), np.uint8)
    labels = np.zeros(len(images), np.int32)

    def read(index: int) -> UnreadableImageError | None:
        try:
            pixels[index], labels[index] = whole_image(images, index, shape)
        except UnreadableImageError as error:
            if on_error == "raise":
                raise
            return error
        return None

    errors = list(map_in_threads(read, range(len(images))))
    found = [error for error in errors if error]
    check_skipped(len(found), len(images), found)
    notes = [displayable(f"SKIPPED {error.culprit}") for error in found]
    if not found:
        return Arrays(pixels, labels, images), notes
    good = np.flatnonzero([error is None for error in errors])
    return Arrays(pixels[good], labels[good], images.take(good)), notes
