"""The order and the names of classes, from a file: that of somebody's weights, mostly.

A folder's classes are in alphabetical order, and those of weights are in whatever order
their author had. A file says which: a name a line, ImageNet's `LOC_synset_mapping.txt`,
or JSON such as `imagenet_class_index.json` and a `config.json` with `id2label`.
"""

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clonalnet_jax.data.records import Records, Split, StoredImage
from clonalnet_jax.errors import UserError, displayable

_LONGEST = 10_000_000  # Bytes.
_FORMS = (
    "a text file with a class a line, or JSON: a list of names, {name: index}, {index: "
    "name} or {index: [name, title]}"
)


class Entry(NamedTuple):
    """A class of a file.

    Attributes:
      identity: The name that no other class has.
      parts: Other names that the data may give it.
      title: The name to show.
      part_title: The name to show where the data call classes by a part of it.
    """

    identity: str
    parts: tuple[str, ...]
    title: str
    part_title: str


@dataclasses.dataclass(frozen=True)
class Reordered:
    """Records whose labels count in another order.

    Attributes:
      records: The records.
      order: The new label of each old one, int32 `[classes]`.
    """

    records: Records
    order: np.ndarray

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.records)

    def __getitem__(self, index: int, /) -> StoredImage:
        """One example."""
        image, label = self.records[index]
        return StoredImage(image, int(self.order[label]))

    def name(self, index: int) -> str:
        """The name by which a message calls it."""
        return self.records.name(index)

    def labels(self) -> np.ndarray:
        """Every label, int32 `[n]`."""
        return self.order[self.records.labels()]


def reorder(splits: tuple[Split, Split], path: Path) -> tuple[Split, Split]:
    """Brings the classes of a data set into the order of a file.

    Args:
      splits: Training and test split, of the same classes.
      path: The file.

    Returns:
      The splits with the file's classes. Those that have no images stay, and the notes
      of the training split count them.

    Raises:
      UserError: The file cannot be read, lacks a class of the data, or has two of the
        same name.
    """
    entries = read_entries(path)
    names = splits[0].class_names
    known, by_part = _index_for(entries, names)
    order = np.asarray(_find(path, entries, names, known), np.int32)
    titles = _titles(path, entries, by_part=by_part)
    train, test = (
        dataclasses.replace(
            split, records=Reordered(split.records, order), class_names=titles
        )
        for split in splits
    )
    lacking = len(titles) - len(names)
    if not lacking:
        return train, test
    note = displayable(
        f"{path} names {len(titles):,} classes; {lacking:,} of them have no images here"
    )
    return dataclasses.replace(train, notes=(*train.notes, note)), test


def read_entries(path: Path) -> list[Entry]:
    """Reads the classes of a file, in order.

    Args:
      path: The file.

    Returns:
      The classes.

    Raises:
      UserError: It is not there, or says nothing of the kind.
    """
    try:
        if (size := path.stat().st_size) > _LONGEST:
            raise ValueError(f"{size:,} bytes, too many for names")
        content = path.read_bytes().decode("utf-8-sig")
        parse = _of_json if path.suffix.lower() == ".json" else _of_text
        entries = parse(content)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad(path, f"{type(error).__name__}: {error}") from error
    if len(entries) < 2:
        raise _bad(path, f"{len(entries)} classes")
    return entries


def _of_text(content: str) -> list[Entry]:
    entries = []
    for line in filter(None, map(str.strip, content.splitlines())):
        parts = line.split(maxsplit=1)
        entries.append(Entry(line, tuple(parts), line, parts[-1]))
    return entries


def _of_json(content: str) -> list[Entry]:
    found = json.loads(content)
    if isinstance(found, Mapping):
        found = found.get("id2label", found)
    if isinstance(found, list):
        return [_entry(value) for value in found]
    if not isinstance(found, Mapping):
        raise TypeError(f"{type(found).__name__} instead of a list or an object")
    if all(isinstance(value, int) for value in found.values()):
        by_index = {index: _entry(name) for name, index in found.items()}
    else:
        by_index = {int(index): _entry(value) for index, value in found.items()}
    if len(by_index) < len(found) or sorted(by_index) != list(range(len(found))):
        raise ValueError(f"its indices are not 0 to {len(found) - 1}, each once")
    return [by_index[index] for index in range(len(found))]


def _entry(value: Any) -> Entry:
    """A class of `"tench"`, or of `["n01440764", "tench"]`."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(name, str) and name for name in several):
        raise TypeError(f"{value!r} is no name")
    return Entry(several[0], tuple(several[1:]), several[-1], several[-1])


def _index_for(
    entries: list[Entry], names: tuple[str, ...]
) -> tuple[dict[str, int], bool]:
    """The class that each name means, and whether by a part of what the file says."""
    whole = {entry.identity: index for index, entry in enumerate(entries)}
    if all(name in whole for name in names):
        return whole, False
    counts = Counter(part for entry in entries for part in set(entry.parts))
    parts = {
        part: index
        for index, entry in enumerate(entries)
        for part in entry.parts
        if counts[part] == 1 and part not in whole
    }
    known = whole | parts
    numbers = all(name.isascii() and name.isdigit() for name in names)
    if numbers and not all(name in known for name in names):
        # Labels without names: they are indices already.
        return {str(index): index for index in range(len(entries))}, False
    return known, any(name in parts for name in names)


def _find(
    path: Path, entries: list[Entry], names: tuple[str, ...], known: dict[str, int]
) -> list[int]:
    """The index in the file of each class of the data."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            raise UserError(
                f"class {name!r}",
                got=f"not in {path}, which names {len(entries):,} classes, such as "
                f"{entries[0].identity!r}",
                expected="every class of the data in it, under the same name",
                remedy=f"did you mean {close[0]!r}?"
                if close
                else "rename it, or give the file of these data",
            )
    where = [known[name] for name in names]
    if len(set(where)) < len(where):
        index, _ = Counter(where).most_common(1)[0]
        twice = [name for name in names if known[name] == index]
        raise UserError(
            f"classes {' and '.join(map(repr, twice))}",
            got=f"one class of {path}: {entries[index].identity!r}",
            expected="different ones",
            remedy="put their images together, or mend the file",
        )
    return where


def _titles(path: Path, entries: list[Entry], *, by_part: bool) -> tuple[str, ...]:
    """How the classes are shown: those of the same title with what tells them apart."""
    shown = [entry.part_title if by_part else entry.title for entry in entries]
    counts = Counter(shown)
    titles = [
        title if counts[title] == 1 else entry.identity
        for title, entry in zip(shown, entries, strict=True)
    ]
    twice = [title for title, count in Counter(titles).items() if count > 1]
    if twice:
        raise _bad(path, f"the class {twice[0]!r} twice")
    return tuple(titles)


def _bad(path: Path, got: str) -> UserError:
    return UserError(
        f"config.data.class_file {path}",
        got=got,
        expected=_FORMS,
        remedy="write one, in the order of the labels",
    )
