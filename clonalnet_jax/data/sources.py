"""Random-access sources of examples, and the data set that a config names."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data import folder, tfds_source
from clonalnet_jax.errors import UserError, unknown_name


class Source(Protocol):
    """Examples by index: `image` uint8 `[h, w, c]` and `label`, an integer."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray]:
        """One example."""


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A source held in memory.

    Attributes:
      image: uint8 `[n, h, w, c]`.
      label: int32 `[n]`.
    """

    image: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.label)

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray]:
        """One example."""
        return {"image": self.image[index], "label": self.label[index]}

    def take(self, indices: np.ndarray) -> "Arrays":
        """The examples of these indices, in their order."""
        return Arrays(self.image[indices], self.label[indices])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a run trains on and is judged by.

    Attributes:
      train: training examples.
      holdout: part of the training data kept aside to pick a checkpoint; may be empty.
      test: what every reported figure is measured on.
      class_names: in the order of the labels.
    """

    train: Arrays
    holdout: Arrays
    test: Arrays
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        height, width, channels = self.train.image.shape[1:]
        return height, width, channels


def open_dataset(config: ConfigDict, *, seed: int) -> Dataset:
    """Opens, checks and splits the data set that `config.data` names.

    Args:
      config: `config.data`.
      seed: picks the held-out examples; the same whatever else the run does.

    Returns:
      The data set, decoded in memory.

    Raises:
      UserError: the data set is missing, broken or does not fit the config.
    """
    readers = {"folder": folder.read, "tfds": tfds_source.read}
    if config.source not in readers:
        raise unknown_name("config.data.source", config.source, readers)
    read = readers[config.source]
    train_images, train_labels, class_names = read(config, config.train_split)
    test_images, test_labels, test_names = read(config, config.test_split)
    _check_same_classes(config, class_names, test_names)
    train = Arrays(*_first_per_class(config, train_images, train_labels))
    test = Arrays(test_images, test_labels)
    _check_same_shape(train, test)
    kept, held = _hold_out(config, train, seed)
    return Dataset(train.take(kept), train.take(held), test, tuple(class_names))


def _first_per_class(
    config: ConfigDict, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first `examples_per_class` of every class; all where it is 0."""
    limit = config.examples_per_class
    if not limit:
        return images, labels
    chosen = [np.flatnonzero(labels == label)[:limit] for label in np.unique(labels)]
    indices = np.sort(np.concatenate(chosen))
    return images[indices], labels[indices]


def _hold_out(
    config: ConfigDict, train: Arrays, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training examples that are kept and that are held out."""
    count = config.holdout
    if not 0 <= count < len(train):
        raise UserError(
            "config.data.holdout",
            got=str(count),
            expected=f"0 to {len(train) - 1}: there are {len(train)} training images",
            remedy="a tenth of the training images is usual",
        )
    order = np.random.default_rng(seed).permutation(len(train))
    return np.sort(order[count:]), np.sort(order[:count])


def _check_same_classes(
    config: ConfigDict, train: Sequence[str], test: Sequence[str]
) -> None:
    if list(train) == list(test):
        return
    odd = sorted(set(train) ^ set(test))
    raise UserError(
        "the splits have different classes",
        got=f"{len(train)} in {config.train_split!r}, {len(test)} in "
        f"{config.test_split!r}; only in one of them: {', '.join(odd[:5])}",
        expected="the same classes in the same order",
        remedy="check the class folders of both splits",
    )


def _check_same_shape(train: Arrays, test: Arrays) -> None:
    if train.image.shape[1:] == test.image.shape[1:]:
        return
    raise UserError(
        "the splits have images of different shapes",
        got=f"{train.image.shape[1:]} for training, {test.image.shape[1:]} for testing",
        expected="one shape (height, width, channels)",
        remedy="resize the images to one size first",
    )
