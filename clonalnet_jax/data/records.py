"""Labelled images by index, as they are stored: not decoded, not transformed."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from clonalnet_jax.data.image_files import read_image_file
from clonalnet_jax.errors import UserError


class StoredImage(NamedTuple):
    """One example.

    Attributes:
      image: The bytes of an image file, or pixels uint8 `[h, w, c]`.
      label: Index of its class.
    """

    image: bytes | np.ndarray
    label: int


class Records(Protocol):
    """Random access to the examples of a split; may be pickled and used in threads."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> StoredImage:
        """One example."""

    def name(self, index: int) -> str:
        """The name by which a message calls it: its file, or its place."""

    def labels(self) -> np.ndarray:
        """Every label, int32 `[n]`; this may read every example."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The records of a split and what their labels mean.

    Attributes:
      records: The examples.
      class_names: The names, in the order of the labels.
      channels: 1 for grey images, 3 for colour.
      title: How to call the split in a message.
      notes: Lines that say which files of the split's folder are not used.
    """

    records: Records
    class_names: tuple[str, ...]
    channels: int
    title: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files.

    Attributes:
      root: The folder that the paths are relative to, but for absolute ones.
      paths: Paths of the files.
      classes: The label of each, int32 `[n]`.
    """

    root: str
    paths: Sequence[str]
    classes: np.ndarray

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __getitem__(self, index: int, /) -> StoredImage:
        """Reads one file.

        Raises:
          BadImageError: There is no such file, but a link to nothing, a pipe or the
            like, or it may not be read.
          UserError: It is gone, or the disk fails.
        """
        path = Path(self.name(index))
        try:
            return StoredImage(read_image_file(path), int(self.classes[index]))
        except OSError as error:
            raise UserError(
                f"image {path}",
                got=error.strerror or str(error),
                expected="a file that can be read",
                remedy="the folder changed since this run started: start it again",
            ) from error

    def name(self, index: int) -> str:
        """Path of the file."""
        return os.path.join(self.root, self.paths[index])

    def labels(self) -> np.ndarray:
        """Every label."""
        return self.classes


@dataclasses.dataclass(frozen=True)
class Noise:
    """Random pixels, a few of them brighter by class: for dry runs and benchmarks.

    Attributes:
      shape: Shape of every image, `(height, width, channels)`.
      num_classes: Number of classes; the labels count up to it again and again.
      size: Number of examples.
      seed: Seed of the pixels.
    """

    shape: tuple[int, int, int]
    num_classes: int
    size: int
    seed: int

    def __len__(self) -> int:
        """Number of examples."""
        return self.size

    def __getitem__(self, index: int, /) -> StoredImage:
        """Draws one image, always the same."""
        rng = np.random.default_rng((self.seed, index))
        pixels = rng.integers(192, size=self.shape, dtype=np.uint8)
        label = index % self.num_classes
        row = label * self.shape[0] // self.num_classes
        pixels[row, :, :] += 63  # something to learn
        return StoredImage(pixels, label)

    def name(self, index: int) -> str:
        """Its place."""
        return f"synthetic image {index}"

    def labels(self) -> np.ndarray:
        """The labels."""
        return np.arange(self.size, dtype=np.int32) % self.num_classes


_Image = TypeVar("_Image")


def draw_test_share(
    by_class: Sequence[Sequence[_Image]], fraction: float, seed: int
) -> tuple[list[list[_Image]], list[list[_Image]]]:
    """Draws the same share of every class for testing.

    Args:
      by_class: The images of each class, in an order that does not change.
      fraction: The share, from 0 to 1.
      seed: The seed that draws it.

    Returns:
      What is left of each class for training, and what is drawn; both in order.
    """
    rng = np.random.default_rng(seed)
    train, test = [], []
    for images in by_class:
        count = round(fraction * len(images))
        order = rng.permutation(len(images))
        train.append([images[i] for i in np.sort(order[count:])])
        test.append([images[i] for i in np.sort(order[:count])])
    return train, test
