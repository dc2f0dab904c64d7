"""Folders of images: `<path>/<split>/<class>/<image>` or `<path>/<class>/<image>`."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.images import EXTENSIONS
from clonalnet_jax.data.records import Files, Split
from clonalnet_jax.errors import UserError

# What the folder of `config.data.test_split` may also be called, the first that is
# there.
_TEST_NAMES = ("test", "val", "valid", "validation")


def open_folder(
    path: Path,
    *,
    train_split: str = "train",
    test_split: str = "test",
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> tuple[Split, Split]:
    """Lists the training and the test images; nothing is decoded.

    Files are searched for at any depth below a class folder; hidden files and folders
    are passed over. The classes are in the order of their names. Without folders for
    splits, the same share of every class is the test split whatever the seed of a run,
    so that runs can be compared.

    Args:
      path: the root.
      train_split: name of a folder.
      test_split: name of a folder; `test`, `val`, `valid` and `validation` stand for
        each other.
      test_fraction: of every class, where there are no folders for splits.
      split_seed: draws that fraction.

    Returns:
      Training and test split, in the order of classes and file names.

    Raises:
      UserError: a folder is missing or empty, or the splits have other classes.
    """
    root = path.expanduser()
    if not root.is_dir():
        raise UserError(
            f"data set folder {root}",
            got="a file" if root.exists() else "nothing there",
            expected="a folder of images",
            remedy="check the path",
        )
    if _is_split(root / train_split):
        folders = root / train_split, _test_folder(root, test_split)
        (train_names, train), (test_names, test) = map(_list, folders)
        _check_same_classes(*folders, train_names, test_names)
        return (
            _split(folders[0], train_names, train),
            _split(folders[1], test_names, test),
        )
    if not any(_has_images(Path(entry.path)) for entry in _folders(root)):
        raise _no_split(root, train_split)
    names, files = _list(root)
    parts = _divide(files, test_fraction, split_seed)
    _check_division(root, names, parts, test_fraction)
    return _split(root, names, parts[0]), _split(root, names, parts[1])


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """As `open_folder`, for `config.data`."""
    if not config.path:
        raise UserError(
            "config.data.path",
            got="not set",
            expected="the folder of <split>/<class>/<image> or <class>/<image>",
            remedy="--config.data.path=/path/to/images",
        )
    return open_folder(
        Path(config.path),
        train_split=config.train_split,
        test_split=config.test_split,
        test_fraction=config.test_fraction,
        split_seed=config.split_seed,
    )


def _is_split(folder: Path) -> bool:
    """Whether a folder holds class folders, and is no class called `train` itself."""
    return folder.is_dir() and not _has_images(folder)


def _test_folder(root: Path, split: str) -> Path:
    names = _TEST_NAMES if split in _TEST_NAMES else (split,)
    for name in (split, *names):
        if (root / name).is_dir():
            return root / name
    raise _no_split(root, split)


def _no_split(root: Path, split: str) -> UserError:
    found = ", ".join(sorted(entry.name for entry in _folders(root))[:5])
    return UserError(
        f"data set folder {root / split}",
        got=f"not there; {root} holds {found or 'no folder'}",
        expected=f"<path>/{split}/<class>/<image>, or <path>/<class>/<image>",
        remedy="set --config.data.path, .train_split and .test_split",
    )


def _list(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Class names and the files of each, relative to the folder."""
    names = sorted(entry.name for entry in _folders(folder))
    if len(names) < 2:
        raise UserError(
            f"data set folder {folder}",
            got=f"{len(names)} sub-folders",
            expected="one sub-folder for each of at least two classes",
            remedy="see --config.data.path: <path>/<split>/<class>/<image>",
        )
    files = [sorted(_images(folder, name)) for name in names]
    for name, found in zip(names, files, strict=True):
        if not found:
            raise UserError(
                f"class folder {folder / name}",
                got="no image files",
                expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
                remedy="add images or remove the folder",
            )
    return names, files


def _check_same_classes(
    train: Path, test: Path, train_names: list[str], test_names: list[str]
) -> None:
    if train_names == test_names:
        return
    odd = sorted(set(train_names) ^ set(test_names))
    raise UserError(
        "the splits have different classes",
        got=f"{len(train_names)} in {train}, {len(test_names)} in {test}; only in one "
        f"of them: {', '.join(odd[:5])}",
        expected="the same class folders",
        remedy="check the class folders of both splits",
    )


def _images(root: Path, below: str) -> Iterator[str]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(root, f"{below}/{entry.name}")
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                yield f"{below}/{entry.name}"


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(
            entry.is_file() and os.path.splitext(entry.name)[1].lower() in EXTENSIONS
            for entry in entries
        )


def _folders(root: Path) -> list[os.DirEntry[str]]:
    with os.scandir(root) as entries:
        return [e for e in entries if e.is_dir() and not e.name.startswith(".")]


def _divide(
    files: list[list[str]], fraction: float, seed: int
) -> tuple[list[list[str]], list[list[str]]]:
    """Draws the same share of every class for testing."""
    rng = np.random.default_rng(seed)
    train, test = [], []
    for names in files:
        count = round(fraction * len(names))
        order = rng.permutation(len(names))
        train.append([names[i] for i in np.sort(order[count:])])
        test.append([names[i] for i in np.sort(order[:count])])
    return train, test


def _check_division(
    root: Path, names: list[str], parts: tuple[list[list[str]], ...], fraction: float
) -> None:
    for name, *files in zip(names, *parts, strict=True):
        if not all(files):
            raise UserError(
                f"class folder {root / name}",
                got=f"{len(files[0])} training and {len(files[1])} test images at "
                f"config.data.test_fraction = {fraction}",
                expected="at least one of each",
                remedy="add images, or set another --config.data.test_fraction",
            )


def _split(folder: Path, names: list[str], files: list[list[str]]) -> Split:
    labels = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, files)))
    paths = tuple(path for paths in files for path in paths)
    return Split(Files(str(folder), paths, labels), tuple(names), 3, f"folder {folder}")
