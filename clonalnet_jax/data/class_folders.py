"""Folders of images: `<path>/<split>/<class>/<image>` or `<path>/<class>/<image>`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data import folder_layout
from clonalnet_jax.data.folder_layout import Level, look_at_level
from clonalnet_jax.data.image_files import Found, describe, look_through
from clonalnet_jax.data.images import EXTENSIONS
from clonalnet_jax.data.records import Files, Split, draw_test_share
from clonalnet_jax.errors import UserError


def open_folder(
    path: Path,
    *,
    train_split: str = "train",
    test_split: str = "test",
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> tuple[Split, Split]:
    """Lists the training and the test images; nothing is decoded.

    Images are searched for at any depth below a class folder. Class folders decide what
    the classes are: images beside them, hidden files and folders, and the directories
    of trainings are passed over, and the splits' `notes` say so. The classes are in the
    order of their names. Without folders for splits, the same share of every class is
    the test split whatever the seed of a run, so that runs can be compared.

    Args:
      path: The root.
      train_split: Name of a folder. If it is empty, the folders of the root are the
        classes, whatever they are called.
      test_split: Name of a folder; `test`, `val`, `valid` and `validation` stand for
        each other.
      test_fraction: Share of every class, where there are no folders for splits.
      split_seed: The seed that draws that share.

    Returns:
      Training and test split, in the order of classes and file names.

    Raises:
      UserError: A folder is missing or empty, the splits have other classes, or the
        folders are not laid out in one of the two ways.
    """
    root = path.expanduser()
    if not root.is_dir():
        raise UserError(
            f"data set folder {root}",
            got="a file" if root.exists() else "nothing there",
            expected="a folder of images",
            remedy="check the path",
        )
    level = look_at_level(root)
    folders = folder_layout.find_splits(root, level, train_split, test_split)
    if folders is not None:
        train, test = map(_list, folders)
        folder_layout.check_same_classes(*folders, train.names, test.names)
        used = {folder.name for folder in folders}
        unused = [Found(name, "unused") for name in level.folders if name not in used]
        notes = (*describe(root, [*level.passed, *unused]), *train.notes)
        return (
            _split(folders[0], train.names, train.files, notes),
            _split(folders[1], test.names, test.files, test.notes),
        )
    if train_split:
        folder_layout.check_is_no_split(root, level, train_split)
    listing = _list(root)
    parts = draw_test_share(listing.files, test_fraction, split_seed)
    _check_division(root, listing.names, parts, test_fraction)
    return (
        _split(root, listing.names, parts[0], listing.notes),
        _split(root, listing.names, parts[1], ()),
    )


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Lists the images of `config.data`, as `open_folder` does."""
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


class _Listing(NamedTuple):
    """The classes of a folder, the files of each, and what was passed over."""

    names: list[str]
    files: list[list[str]]
    notes: tuple[str, ...]


def _list(folder: Path) -> _Listing:
    """Lists class folders and their images; the paths are relative to the folder."""
    level = look_at_level(folder)
    names, files, passed = [], [], list(level.passed)
    for name in level.folders:
        found = list(look_through(folder, name))
        images = sorted(path for path, kind in found if kind == "image")
        passed += [other for other in found if other.kind != "image"]
        if images:
            names.append(name)
            files.append(images)
        elif not any(other.kind == "workdir" for other in found):
            raise _empty_class(folder / name, passed)
    _check_names(folder, names, level)
    return _Listing(names, files, tuple(describe(folder, passed)))


def _empty_class(folder: Path, passed: list[Found]) -> UserError:
    others = sum(other.kind == "other" for other in passed)
    return UserError(
        f"class folder {folder}",
        got="no image files" + (f", and {others} of other kinds" if others else ""),
        expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
        remedy="add images or remove the folder",
    )


def _check_names(folder: Path, names: list[str], level: Level) -> None:
    if len(names) < 2:
        raise UserError(
            f"data set folder {folder}",
            got=f"{len(names)} class folders and {level.count_images()} images "
            "beside them",
            expected="one sub-folder for each of at least two classes",
            remedy="see --config.data.path: <path>/<split>/<class>/<image>",
        )
    folder_layout.check_readable_names(folder, names)


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


def _split(
    folder: Path, names: list[str], files: list[list[str]], notes: tuple[str, ...]
) -> Split:
    labels = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, files)))
    paths = tuple(path for paths in files for path in paths)
    records = Files(str(folder), paths, labels)
    return Split(records, tuple(names), 3, f"folder {folder}", notes)
