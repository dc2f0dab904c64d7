"""Finds which of two layouts a folder has, and explains what is wrong if neither."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from clonalnet_jax.data.image_files import (
    Found,
    is_hidden,
    is_image_name,
    look_through,
    names_in,
)
from clonalnet_jax.errors import UserError

TEST_NAMES = {
    "test": ("test", "val", "valid", "validation"),
    "val": ("val", "valid", "validation", "test"),
    "valid": ("valid", "val", "validation", "test"),
    "validation": ("validation", "val", "valid", "test"),
}
"""The names that a test split may have, the likeliest to be meant first."""
_SPLIT_NAMES = {*TEST_NAMES, "train", "training", "testing", "eval", "dev"}
_FLAT = '--config.data.train_split="" says that the folders of the path are the classes'


def names_of_test(name: str) -> tuple[str, ...]:
    """The name of a test split, then those that stand for it."""
    return (name, *(other for other in TEST_NAMES.get(name, ()) if other != name))


class Level(NamedTuple):
    """One level of a folder: what lies directly in it.

    Attributes:
      folders: Names of the folders that are not hidden, in order. A link to a folder
        counts.
      passed: The loose images and the hidden files and folders.
    """

    folders: list[str]
    passed: list[Found]

    def count_images(self) -> int:
        """How many images lie directly in the folder."""
        return sum(found.kind == "loose" for found in self.passed)


def look_at_level(folder: Path) -> Level:
    """Lists what lies directly in a folder.

    Args:
      folder: The folder to look at.

    Returns:
      Its folders, and what is passed over beside them.

    Raises:
      UserError: The folder cannot be read, or a link in it leads to nothing and may
        have been a class.
    """
    folders, passed = [], []
    for name, is_folder in sorted(names_in(folder).items()):
        if is_hidden(name):
            passed.append(Found(name, "hidden"))
        elif is_folder:
            folders.append(name)
        elif is_image_name(name):
            passed.append(Found(name, "loose"))
        elif (folder / name).is_symlink() and not (folder / name).exists():
            raise UserError(
                f"link {folder / name}",
                got=f"it leads to {(folder / name).readlink()}, which is not there",
                expected="a folder of images, or nothing",
                remedy="mount or fetch what it leads to, or remove the link",
            )
    return Level(folders, passed)


def find_splits(
    root: Path, level: Level, train_split: str, test_split: str
) -> tuple[Path, Path] | None:
    """Finds the folders of the two splits.

    A folder is a split if it holds class folders, whatever else lies beside them.

    Args:
      root: The data set's folder.
      level: The entries that lie directly in it.
      train_split: The name of the training split; empty for none.
      test_split: The name of the test split.

    Returns:
      The two folders; None where the training split is no folder of class folders.

    Raises:
      UserError: There is a training split and no test split.
    """
    if train_split not in level.folders or not _has_class_folders(root / train_split):
        return None
    names = [
        name
        for name in names_of_test(test_split)
        if (root / name).is_dir() and name != train_split
    ]
    if not names:
        raise _no_split(root, level, test_split, f"; {_FLAT}")
    return root / train_split, _checked_test(root, names[0], train_split)


def check_is_no_split(root: Path, level: Level, train_split: str) -> None:
    """Checks that the folders of a root are classes, and not splits.

    Args:
      root: The data set's folder.
      level: The entries that lie directly in it.
      train_split: The name of the training split that was looked for.

    Raises:
      UserError: At least two of them are called like splits, or all of them hold
        folders of the same names, as splits do.
    """
    splits = [name for name in level.folders if name.lower() in _SPLIT_NAMES]
    if len(splits) > 1:
        raise UserError(
            f"data set folder {root}",
            got=", ".join(_contents(root / name) for name in splits),
            expected=f"<path>/{train_split}/<class>/<image>, or <path>/<class>/<image>",
            remedy="sort the images of each split into one folder for each class, or "
            "name the splits with --config.data.train_split and .test_split",
        )
    inside = [tuple(_class_folders(root / name)) for name in level.folders]
    if not any(look_at_level(root / name).count_images() for name in level.folders):
        if any(inside) or not level.folders:
            raise _no_split(root, level, train_split, f"; {_FLAT}")
    elif len(inside) > 1 and len(inside[0]) > 1 and len(set(inside)) == 1:
        raise _no_split(root, level, train_split, f"; {_FLAT}")


def check_same_classes(
    train: Path, test: Path, train_names: list[str], test_names: list[str]
) -> None:
    """Checks that two splits have the same classes.

    Args:
      train: The folder of one split.
      test: The folder of the other.
      train_names: Its classes, in order.
      test_names: The other's.

    Raises:
      UserError: They differ; the message says how.
    """
    if train_names == test_names:
        return
    odd = sorted(set(train_names) ^ set(test_names))
    remedy = "check the class folders of both splits"
    if _alike(train_names, _normal_form) == _alike(test_names, _normal_form):
        odd = [ascii(name) for name in odd]
        remedy = "the names look the same and are written in two Unicode normalisation "
        remedy += "forms (NFC and NFD): rename the folders to one of them"
    elif _alike(train_names, str.casefold) == _alike(test_names, str.casefold):
        remedy = "the names differ in upper and lower case only: rename the folders"
    raise UserError(
        "the splits have different classes",
        got=f"{len(train_names)} in {train}, {len(test_names)} in {test}; only in one "
        f"of them: {', '.join(odd[:6])}",
        expected="the same class folders",
        remedy=remedy,
    )


def check_readable_names(folder: Path, names: list[str]) -> None:
    """Checks that the names of the classes can be written down and told apart.

    Args:
      folder: The folder that holds the classes.
      names: Their names.

    Raises:
      UserError: A name is not UTF-8, or two look the same.
    """
    for name in names:
        if not name.isprintable() and any("\ud800" <= c <= "\udfff" for c in name):
            raise UserError(
                f"class folder {name!a} in {folder}",
                got="a name that is not UTF-8",
                expected="a name that can be written into results and reports",
                remedy="rename the folder, with convmv for example",
            )
    twice = [n for n, count in Counter(map(_normal_form, names)).items() if count > 1]
    if twice:
        raise UserError(
            f"class folders {twice[0]} in {folder}",
            got=", ".join(ascii(n) for n in names if _normal_form(n) == twice[0]),
            expected="one folder for each class: the names look the same and are "
            "written in two Unicode normalisation forms (NFC and NFD)",
            remedy="put their images into one folder",
        )


def _checked_test(root: Path, name: str, train_split: str) -> Path:
    """The folder of a test split, if it holds class folders."""
    if _has_class_folders(root / name):
        return root / name
    others = [
        other
        for other in TEST_NAMES["val"]
        if other not in (name, train_split) and _has_class_folders(root / other)
    ]
    raise UserError(
        f"test split {root / name}",
        got=_contents(root / name),
        expected=f"the class folders of {root / train_split}",
        remedy=f"--config.data.test_split={others[0]}, which has class folders"
        if others
        else "sort its images into class folders; or, if nobody knows their classes, "
        f"--config.data.path={root / train_split}, of whose images a part is then "
        "kept for testing",
    )


def _no_split(root: Path, level: Level, split: str, advice: str) -> UserError:
    found = ", ".join(level.folders[:5])
    return UserError(
        f"data set folder {root / split}",
        got=f"no folder of class folders; {root} holds {found or 'no folder'}",
        expected=f"<path>/{split}/<class>/<image>, or <path>/<class>/<image>",
        remedy=f"set --config.data.path, .train_split and .test_split{advice}",
    )


def _contents(folder: Path) -> str:
    level = look_at_level(folder)
    images = level.count_images()
    classes = sum(1 for _ in _class_folders(folder))
    return f"{folder.name} holds {images} images and {classes or 'no'} class folders"


def _has_class_folders(folder: Path) -> bool:
    return folder.is_dir() and any(_class_folders(folder))


def _class_folders(folder: Path) -> Iterator[str]:
    """Names of the folders in a folder that hold images at any depth, in order."""
    for name in look_at_level(folder).folders:
        if any(found.kind == "image" for found in look_through(folder, name)):
            yield name


def _alike(names: list[str], normal: Callable[[str], str]) -> list[str]:
    return sorted(map(normal, names))


def _normal_form(name: str) -> str:
    return unicodedata.normalize("NFC", name)
