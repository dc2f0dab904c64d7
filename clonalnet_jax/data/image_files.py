"""Image files in a folder: which are found, what is passed over, and how one is read.

Training, `check` and `predict` all look at a folder through this module, so that they
see the same files.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from clonalnet_jax.data.formats import EXTENSIONS, BadImageError
from clonalnet_jax.errors import UserError, displayable

# Folders of network stores, operating systems and editors that hold copies, thumbnails
# or what was deleted, in lower case; and every name that starts with a dot is hidden.
_SYSTEM_NAMES = frozenset(
    {
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@__thumb",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__macosx",
        "__pycache__",
    }
)
# Files of the same origin that nobody takes for data: not worth a word.
_CLUTTER = frozenset(
    {".ds_store", ".localized", ".directory", ".gitkeep", ".keep", ".gitignore"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini"}
)
_SHOWN, _ENDINGS_SHOWN = 3, 12


class Found(NamedTuple):
    """A file or folder that was come across.

    Attributes:
      path: The path relative to where the search began.
      kind: Either `image` or why it is passed over: `hidden`; `other`, a file that
        does not end as an image does; `workdir`, the directory of a training; `loop`, a
        link that leads back to a folder above it.
    """

    path: str
    kind: str


def look_through(root: Path, below: str = "") -> Iterator[Found]:
    """Searches a folder at any depth, through links, too.

    Args:
      root: The folder.
      below: A folder in it to search alone; empty for the whole of it.

    Yields:
      What is found, in no particular order; nothing twice.

    Raises:
      UserError: A folder cannot be read.
    """
    outer = [root, *(root / part for part in Path(below).parents)] if below else []
    yield from _look_through(str(root), below, tuple(map(_identity, outer)))


def find_images(folder: Path) -> list[str]:
    """The images of a folder at any depth, in the order of their paths.

    Args:
      folder: The folder to search.

    Returns:
      Paths relative to the folder.

    Raises:
      UserError: A folder cannot be read.
    """
    return sorted(found.path for found in look_through(folder) if found.kind == "image")


def describe(folder: Path, found: Iterable[Found]) -> list[str]:
    """Says what was passed over in a folder.

    Args:
      folder: The folder; the paths are relative to it.
      found: All that was found, images included. Further kinds than those of
        `look_through` are `loose`, an image beside the class folders, and `unused`, a
        folder beside the splits.

    Returns:
      A line for each kind of thing that there is.
    """
    by_kind: dict[str, list[str]] = {}
    for path, kind in found:
        by_kind.setdefault(kind, []).append(path)
    lines = []
    for kind, (one, many) in _WORDS.items():
        if paths := by_kind.get(kind):
            which = _endings(paths) if kind == "other" else _some(paths)
            lines.append(f"{len(paths):,} {one if len(paths) == 1 else many} ({which})")
    return [displayable(f"IGNORED in {folder}: {line}") for line in lines]


_WORDS = {
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "loose": ("image beside the class folders", "images beside the class folders"),
    "unused": ("folder beside the splits", "folders beside the splits"),
    "workdir": ("directory of a training", "directories of trainings"),
    "loop": ("link to a folder above it", "links to folders above them"),
    "other": ("file that ends as no image", "files that end as no image"),
}


def read_image_file(path: Path) -> bytes:
    """Reads a regular file; anything else might never end.

    Args:
      path: The file.

    Returns:
      Its bytes.

    Raises:
      BadImageError: It is a folder, a pipe, a device or a socket, a link to nothing,
        or nobody is allowed to read it.
      OSError: It is gone, or the disk fails.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise BadImageError(f"it is {_type_of(mode)} and not a file")
        return path.read_bytes()
    except PermissionError as error:
        raise BadImageError(error.strerror or str(error)) from error
    except OSError as error:
        if path.is_symlink() and not path.exists():
            target = os.readlink(path)
            raise BadImageError(f"a link to {target}, which is not there") from error
        raise


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over wherever it lies."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES | _CLUTTER


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _look_through(
    root: str, below: str, above: tuple[tuple[int, int], ...]
) -> Iterator[Found]:
    folder = os.path.join(root, below)
    entries = names_in(folder)
    if below and _is_workdir(entries):
        yield Found(below, "workdir")
        return
    here = _identity(folder)
    if here in above:
        yield Found(below, "loop")
        return
    for name, is_folder in entries.items():
        path = f"{below}/{name}" if below else name
        if is_hidden(name):
            if name.lower() not in _CLUTTER:
                yield Found(path, "hidden")
        elif is_folder:
            yield from _look_through(root, path, (*above, here))
        else:
            yield Found(path, "image" if is_image_name(name) else "other")


def _identity(folder: str | Path) -> tuple[int, int]:
    """Device and inode of a folder: the same by whatever path it is reached."""
    place = os.stat(folder)
    return place.st_dev, place.st_ino


def names_in(folder: str | Path) -> dict[str, bool]:
    """Names in a folder, and whether each is a folder itself or a link to one."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: _is_folder(entry) for entry in entries}
    except OSError as error:
        raise UserError(
            f"folder {folder}",
            got=error.strerror or str(error),
            expected="a folder that can be read",
            remedy="look at its permissions and at what it links to",
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _is_workdir(entries: dict[str, bool]) -> bool:
    """Whether a folder is what training writes into, by what it holds.

    From its start on it holds a lock, and soon the config and a list of the starts.
    """
    beside = {"environment.json", "results.json", "metrics.jsonl", "lock"}
    if "config.json" in entries:
        return bool(beside & entries.keys())
    return entries.get("lock") is False and not any(map(is_image_name, entries))


def _type_of(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "something else")


def _endings(paths: list[str]) -> str:
    found = Counter(Path(path).suffix.lower() or "without" for path in paths)
    more = len(found) - _ENDINGS_SHOWN
    commonest = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    some = [f"{count:,} {name}" for name, count in commonest[:_ENDINGS_SHOWN]]
    return ", ".join(some) + (f" and {more:,} more endings" if more > 0 else "")


def _some(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(sorted(paths)[:_SHOWN]) + (
        f" and {more:,} more" if more > 0 else ""
    )
