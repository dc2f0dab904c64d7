"""Images and labels as arrays: in memory, or in NumPy's files.

A file `.npz` holds `train_images`, `train_labels`, `test_images` and `test_labels`, as
MedMNIST's files do, and `class_names` if there are any. A folder holds the same arrays
as `train_images.npy` and so on, which are read as they are needed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.array_files import keep_arrays, read_arrays, refusal
from clonalnet_jax.data.examples import Examples, stack_examples
from clonalnet_jax.data.records import Split, StoredImage, draw_test_share
from clonalnet_jax.errors import displayable

_NAMES = "class_names"
_IMAGES = "uint8 images [n, height, width] or [n, height, width, channels], of 1 or 3"


@dataclasses.dataclass(frozen=True, eq=False)  # Arrays have no truth value.
class ArrayRecords:
    """Images of a split.

    Attributes:
      title: How a message calls the split.
      images: Pixels, uint8 `[n, h, w, c]`.
      classes: The label of each, int32 `[n]`.
    """

    title: str
    images: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.classes)

    def __getitem__(self, index: int, /) -> StoredImage:
        """One image."""
        return StoredImage(np.asarray(self.images[index]), int(self.classes[index]))

    def name(self, index: int) -> str:
        """Its place."""
        return f"{index} of {self.title}"

    def labels(self) -> np.ndarray:
        """Every label."""
        return self.classes

    def take(self, indices: np.ndarray) -> "ArrayRecords":
        """The images of these indices, in their order."""
        return ArrayRecords(self.title, self.images[indices], self.classes[indices])


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayData:
    """A data set in memory, checked; `from_arrays` makes it.

    Attributes:
      train: Training images.
      test: Test images; None if they are still to be drawn from the training images.
      class_names: Names of the classes, in the order of the labels.
    """

    train: ArrayRecords
    test: ArrayRecords | None
    class_names: tuple[str, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by the names that they have in a file."""
        found = {_NAMES: np.array(self.class_names)}
        for split, records in (("train", self.train), ("test", self.test)):
            if records is not None:
                found[f"{split}_images"] = records.images
                found[f"{split}_labels"] = records.classes
        return found

    def keep(self, directory: Path) -> Path:
        """Writes the arrays below a directory; see `array_files.keep_arrays`."""
        return keep_arrays(self.arrays(), directory)


def from_arrays(
    train: Examples, test: Examples | None = None, *, class_names: Any = None
) -> ArrayData:
    """Makes a data set of images and labels that are in memory.

    Args:
      train: A pair `(images, labels)`: pixels uint8 `[n, h, w]` or `[n, h, w, c]` with
        1 or 3 channels, and integers `[n]`. Or examples by index, each a pair or a
        mapping with `image` and `label`, as a PyTorch dataset, a Hugging Face dataset
        or a TFDS data source has them; their images are arrays or Pillow's, of one
        size.
      test: The same for testing. None draws `config.data.test_fraction` of every class
        from the training images.
      class_names: Names of the classes, in the order of the labels; by default those
        that `train` says it has, or else the numbers.

    Returns:
      The data set, for `train` and `compare`.

    Raises:
      UserError: An array has another shape or dtype, or a label is out of range.
    """
    splits = {"train": stack_examples(train, "train", class_names)}
    if test is not None:
        splits["test"] = stack_examples(test, "test", class_names)
    names = class_names if class_names is not None else splits["train"].class_names
    arrays = {
        f"{split}_{part}": value
        for split, found in splits.items()
        for part, value in (("images", found.images), ("labels", found.labels))
    }
    if names is not None:
        arrays[_NAMES] = np.array([str(name) for name in names])
    return _data("from_arrays", arrays, ("train", "test" if test is not None else ""))


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Opens the arrays that `config.data.path` names.

    Args:
      config: The section `config.data`.

    Returns:
      Training and test split.

    Raises:
      UserError: A file is missing or damaged, or its arrays are no images and labels.
    """
    if not config.path:
        raise refusal("config.data.path", "not set", "a file or folder of arrays")
    path = Path(config.path).expanduser()
    arrays, notes = read_arrays(path), list[str]()
    splits = (config.train_split, config.test_split)
    if f"{splits[1]}_images" not in arrays:
        splits = (splits[0], "")
    data = _data(str(path), arrays, splits)
    train, test = data.train, data.test
    if test is None:
        by_class = [
            np.flatnonzero(train.classes == label).tolist()
            for label in range(len(data.class_names))
        ]
        parts = draw_test_share(by_class, config.test_fraction, config.split_seed)
        kept, drawn = (np.sort(np.concatenate(part).astype(int)) for part in parts)
        if not len(kept) or not len(drawn):
            got = f"{len(drawn)} of {len(train)} images for testing"
            raise refusal("config.data.test_fraction", got, "some images on both sides")
        train, test = train.take(kept), train.take(drawn)
        notes.append(
            f"{path} has no {config.test_split}_images: {len(drawn):,} images, "
            f"{config.test_fraction:g} of every class, are drawn for testing"
        )
    unused = sorted(
        name for name in arrays if name.endswith("_images") and name[:-7] not in splits
    )
    notes += [f"{path} has {name}, which are not used" for name in unused]
    lines, channels = tuple(map(displayable, notes)), train.images.shape[-1]
    title = f"arrays {path}"
    return (
        Split(train, data.class_names, channels, title, lines),
        Split(test, data.class_names, channels, title),
    )


def _data(
    where: str, arrays: Mapping[str, np.ndarray], splits: Sequence[str]
) -> ArrayData:
    """Checks arrays and makes a data set of them; the last split may be empty."""
    names = arrays.get(_NAMES)
    if names is not None and (names.ndim != 1 or names.dtype.kind not in "US"):
        got = f"{names.dtype} {list(names.shape)}"
        raise refusal(f"{where}: {_NAMES}", got, "names, one for each class")
    train, *rest = [_records(where, arrays, split) for split in splits if split]
    test = rest[0] if rest else None
    count = 1 + int(train.classes.max())
    known = tuple(map(str, range(count) if names is None else names.tolist()))
    if len(set(known)) < max(len(known), 2):
        raise refusal(
            f"{where}: classes", repr(known[:6]), "two different names or more"
        )
    _check_labels(where, train, known)
    if test is not None:
        if test.images.shape[1:] != train.images.shape[1:]:
            raise refusal(
                f"{where}: {splits[1]}_images",
                f"images {list(test.images.shape[1:])}",
                f"images {list(train.images.shape[1:])}, as in {splits[0]}_images",
            )
        _check_labels(where, test, known)
    lacking = sorted(set(range(len(known))) - set(train.classes.tolist()))
    if lacking:
        raise refusal(
            f"{where}: {splits[0]}_labels",
            f"no image of {', '.join(known[label] for label in lacking[:6])}",
            "images of every class to train on",
        )
    return ArrayData(train, test, known)


def _records(where: str, arrays: Mapping[str, np.ndarray], split: str) -> ArrayRecords:
    parts = [f"{split}_images", f"{split}_labels"]
    for name in parts:
        if name not in arrays:
            has = ", ".join(sorted(arrays)[:8]) or "nothing"
            raise refusal(
                f"{where}: {name}", f"no such array, but: {has}", "all of them"
            )
    images, labels = (arrays[name] for name in parts)
    if images.ndim == 3:
        images = images[..., None]
    shaped = images.ndim == 4 and images.shape[-1] in (1, 3) and images.size
    if images.dtype != np.uint8 or not shaped:
        got = f"{images.dtype} {list(arrays[parts[0]].shape)}"
        raise refusal(f"{where}: {parts[0]}", got, _IMAGES + " channels, from 0 to 255")
    if labels.ndim == 2 and labels.shape[1] == 1:  # as MedMNIST has them
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        got = f"{labels.dtype} {list(arrays[parts[1]].shape)}"
        raise refusal(f"{where}: {parts[1]}", got, f"integers [{len(images)}], from 0")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        got = f"labels from {labels.min()} to {labels.max()}"
        raise refusal(f"{where}: {parts[1]}", got, "labels that count from 0")
    return ArrayRecords(parts[0], images, np.asarray(labels, np.int32))


def _check_labels(where: str, records: ArrayRecords, known: Sequence[str]) -> None:
    highest = int(records.classes.max())
    if highest >= len(known):
        raise refusal(
            f"{where}: labels of {records.title}",
            f"label {highest}",
            f"0 to {len(known) - 1}, for {len(known)} classes",
        )
