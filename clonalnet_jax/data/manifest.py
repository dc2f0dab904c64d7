"""Manifests: a table of images, in CSV or Parquet, `path,label[,split]`.

Paths are relative to the folder that the manifest lies in. A row is one image; what is
wrong with one is said with its line.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.folder_layout import names_of_test
from clonalnet_jax.data.image_files import names_in
from clonalnet_jax.data.labelled import Row, check_complete, divide, order_classes
from clonalnet_jax.data.records import Files, Split
from clonalnet_jax.errors import UserError, displayable, unknown_name

_COLUMNS = ("path", "label")
_FORMS = (
    "one file with the columns path, label and split, or <folder>/train.csv with "
    "<folder>/test.csv; or .tsv or .parquet instead of .csv"
)


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Reads the manifest, or the two manifests, that `config.data.path` names.

    Classes are in the order of their names; those that are all whole numbers, in the
    order of the numbers. Without splits, the same share of every class is the test
    split, as in a folder without splits.

    Args:
      config: The section `config.data`.

    Returns:
      Training and test split; nothing is decoded.

    Raises:
      UserError: A file is missing or cannot be read, lacks a column, or has rows
        without a path or a label, of images that are not there or are named twice.
    """
    path = _path(config)
    root, train, test, others = _read_all(path, config)
    _check_different([*train, *test])
    _check_there(root, [*train, *test])
    names = order_classes(f"manifest {path}", path, train, test)
    notes = [f"{path} has {n:,} rows of split {one!r}, unused" for one, n in others]
    if not test:
        train, test = divide(train, names, config)
        share = f"{len(test):,} images, {config.test_fraction:g} of every class,"
        notes.append(f"{path} names no splits: {share} are drawn for testing")
    for split, rows in ((config.train_split, train), (config.test_split, test)):
        check_complete(f"manifest {path}", split, rows, names)
    lines = tuple(map(displayable, notes))
    return _split(root, path, names, train, lines), _split(root, path, names, test, ())


class _Table(NamedTuple):
    """What is read: the rows of each split, and how many belong to neither."""

    root: Path
    train: list[Row]
    test: list[Row]
    others: list[tuple[str, int]]


def _path(config: ConfigDict) -> Path:
    if not config.path:
        raise _bad("config.data.path", "not set", "--config.data.path=/path/to/all.csv")
    return Path(config.path).expanduser()


def _read_all(path: Path, config: ConfigDict) -> _Table:
    """Reads one manifest, or the two of a folder."""
    named = names_of_test(config.test_split)
    if path.is_dir():
        train = _read(_find(path, (config.train_split,)))
        return _Table(path, train, _read(_find(path, named)), [])
    rows = _read(path)
    found = Counter(row.split for row in rows)
    if set(found) == {""}:
        return _Table(path.parent, rows, [], [])
    test_split = next((name for name in named if name in found), config.test_split)
    for key, split in (("train", config.train_split), ("test", test_split)):
        if split not in found:
            what = f"config.data.{key}_split: split of {path}"
            raise unknown_name(what, split, sorted(found))
    train, test = (
        [row for row in rows if row.split == split]
        for split in (config.train_split, test_split)
    )
    others = sorted(set(found) - {config.train_split, test_split})
    return _Table(path.parent, train, test, [(name, found[name]) for name in others])


def _find(folder: Path, names: Sequence[str]) -> Path:
    found = names_in(folder)
    for name in names:
        for suffix in _READERS:
            if name + suffix in found:
                return folder / (name + suffix)
    got = f"no {', '.join(f'{name}.csv' for name in names)}"
    raise _bad(f"folder {folder}", got, "name the file itself, or check the path")


def _read(path: Path) -> list[Row]:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        got = f"a file that ends in {path.suffix or 'nothing'}"
        raise _bad(f"manifest {path}", got, "save it as one of these")
    try:
        rows = list(read(path))
    except OSError as error:
        got = error.strerror or str(error)
        raise _bad(f"manifest {path}", got, "check the path") from error
    if not rows:
        raise _bad(f"manifest {path}", "no rows", "write a row for each image")
    return rows


def _read_csv(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    columns = ", ".join(reader.fieldnames or ())
                    got = f"a row of another length than the columns {columns}"
                    raise _bad(place, got, "quote values that hold a comma")
                yield _row(place, row)
        except (csv.Error, UnicodeDecodeError) as error:
            place = f"{path}, line {reader.line_num + 1}"
            raise _bad(place, str(error), "save it as CSV in UTF-8") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file)
            names = table.schema_arrow.names
            _check_columns(path, names)
            wanted = [name for name in (*_COLUMNS, "split") if name in names]
            rows = table.read(columns=wanted).to_pylist()
    except (pyarrow.ArrowException, ValueError) as error:
        got = str(error).splitlines()[0]
        raise _bad(f"manifest {path}", got, "write it again, as Parquet") from error
    for number, row in enumerate(rows, start=1):
        yield _row(f"{path}, row {number}", row)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        lacks = " and ".join(missing)
        got = displayable(f"no column {lacks}, but: {', '.join(found) or 'none'}")
        raise _bad(f"manifest {path}", got, "name its columns in line 1")


def _row(place: str, row: dict[str, object]) -> Row:
    path, label, split = (
        "" if row.get(name) is None else str(row[name]).strip()
        for name in (*_COLUMNS, "split")
    )
    for name, value in (("path", path), ("label", label)):
        if not value:
            raise _bad(place, f"no {name}", "fill it in, or remove the row")
    return Row(place, path, label, split)


def _check_different(rows: Sequence[Row]) -> None:
    """Refuses an image that is named twice, in one split or in both."""
    seen: dict[str, Row] = {}
    for row in rows:
        path = os.path.normpath(row.path)
        first = seen.setdefault(path, row)
        if first is not row:
            got = f"{path} again, which is in {first.place}, too"
            what = "for each image one row"
            raise _bad(row.place, got, "remove one of the two", expected=what)


def _check_there(root: Path, rows: Sequence[Row]) -> None:
    """Refuses rows whose file is not there; lists each folder once."""
    folders: dict[Path, dict[str, bool]] = {}
    missing = []
    for row in rows:
        file = root / row.path
        if file.parent not in folders:
            there = file.parent.is_dir()
            folders[file.parent] = names_in(file.parent) if there else {}
        if folders[file.parent].get(file.name, True) and not file.is_file():
            missing.append(row)
    if missing:
        more = f", and {len(missing) - 1:,} more rows" if len(missing) > 1 else ""
        got = f"no file {root / missing[0].path}{more}"
        remedy = "paths are relative to the manifest's folder: move it, or mend them"
        raise _bad(missing[0].place, got, remedy, expected="an image that is there")


def _split(
    root: Path, path: Path, names: list[str], rows: list[Row], notes: tuple[str, ...]
) -> Split:
    index = {name: number for number, name in enumerate(names)}
    labels = np.asarray([index[row.label] for row in rows], np.int32)
    records = Files(str(root), tuple(row.path for row in rows), labels)
    return Split(records, tuple(names), 3, f"manifest {path}", notes)


def _bad(culprit: str, got: str, remedy: str, *, expected: str = _FORMS) -> UserError:
    return UserError(culprit, got=got, expected=expected, remedy=remedy)
