"""Looks at every image of a config's data set.

python -m clonalnet_jax.data.check --config=configs/digits.py
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from clonalnet_jax.data.dataset import open_splits
from clonalnet_jax.data.images import BadImageError
from clonalnet_jax.data.reader import Reader
from clonalnet_jax.data.records import Split
from clonalnet_jax.errors import displayable, displayable_lines
from clonalnet_jax.runtime.threads import map_in_threads

_SHOWN = 20


class Findings(NamedTuple):
    """The facts about a data set that are worth a look.

    Attributes:
      class_names: The names of the classes, in the order of the labels.
      counts: Images by split and class, int `[2, classes]`: training, test.
      unreadable: Name and reason of every image that cannot be decoded.
      duplicates: Names of images with the same pixels in both splits.
      repeated: Number of images that are in the training split more than once.
      sizes: Smallest and largest `(height, width)` of all images.
      notes: Lines that say which files of a folder are not used, and why.
    """

    class_names: tuple[str, ...]
    counts: np.ndarray
    unreadable: list[tuple[str, str]]
    duplicates: list[tuple[str, str]]
    repeated: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    notes: tuple[str, ...]


class _Seen(NamedTuple):
    """The part of one image that is kept."""

    name: str
    label: int
    digest: bytes
    size: tuple[int, int]
    error: str


def check(config: ConfigDict) -> Findings:
    """Decodes every image of both splits.

    Args:
      config: The part `data` of a config.

    Returns:
      The findings.

    Raises:
      UserError: The data set cannot be opened.
    """
    splits = open_splits(config)
    train, test = (list(_look(split, config.max_pixels)) for split in splits)
    classes = np.arange(len(splits[0].class_names) + 1)
    counts = np.stack(
        [
            np.histogram([seen.label for seen in part], classes)[0]
            for part in (train, test)
        ]
    )
    good = [seen for seen in (*train, *test) if not seen.error]
    first = {seen.digest: seen.name for seen in reversed(train) if not seen.error}
    sizes = [seen.size for seen in good] or [(0, 0)]
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return Findings(
        class_names=splits[0].class_names,
        counts=counts,
        unreadable=[(seen.name, seen.error) for seen in (*train, *test) if seen.error],
        duplicates=[
            (first[seen.digest], seen.name)
            for seen in test
            if not seen.error and seen.digest in first
        ],
        repeated=sum(not seen.error for seen in train) - len(first),
        sizes=(by_area[0], by_area[-1]),
        notes=tuple(note for split in splits for note in split.notes),
    )


def _look(split: Split, max_pixels: int) -> Iterator[_Seen]:
    reader = Reader(split.channels, max_pixels=max_pixels)

    def see(index: int) -> _Seen:
        name = split.records.name(index)
        try:
            record = split.records[index]
        except BadImageError as error:  # no file that can be read
            label = int(split.records.labels()[index])
            return _Seen(name, label, b"", (0, 0), str(error))
        try:
            pixels = reader(record.image, None)
        except BadImageError as error:
            return _Seen(name, record.label, b"", (0, 0), str(error))
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes())
        size = (pixels.shape[0], pixels.shape[1])
        return _Seen(name, record.label, digest.digest(), size, "")

    count = len(split.records)
    seen = map_in_threads(see, range(count))
    yield from track(seen, split.title, count, transient=True)


def show(findings: Findings, console: Console) -> None:
    """Prints findings: a row for each class, then what is wrong."""
    table = Table("label", "class", title="Images")
    for split in ("training", "test"):
        table.add_column(split, justify="right")
    for label, name in enumerate(findings.class_names):
        cells = [f"{count:,}" for count in findings.counts[:, label]]
        table.add_row(str(label), Text(displayable(name)), *cells)
    table.add_section()
    table.add_row("", "all", *(f"{count:,}" for count in findings.counts.sum(axis=1)))
    console.print(table)
    small, large = findings.sizes
    _say(console, f"Sizes: {small[1]}x{small[0]} to {large[1]}x{large[0]} pixels")
    _say(console, f"Images that are in the training split again: {findings.repeated:,}")
    duplicates = [f"{a} = {b}" for a, b in findings.duplicates]
    _list(console, "Test images that are training images too", duplicates)
    for note in findings.notes:
        _say(console, note)
    unreadable = [f"{name}: {error}" for name, error in findings.unreadable]
    _list(console, "Unreadable images", unreadable)


def _list(console: Console, title: str, lines: list[str]) -> None:
    _say(console, f"{title}: {len(lines):,}")
    for line in lines[:_SHOWN]:
        _say(console, f"  {displayable(line, limit=None)}")
    if len(lines) > _SHOWN:
        _say(console, f"  and {len(lines) - _SHOWN:,} more")


def _say(console: Console, text: str) -> None:
    console.print(
        displayable_lines(text), markup=False, highlight=False, soft_wrap=True
    )


def main(config: ConfigDict, arguments: list[str]) -> int:
    """Prints the findings; 3 where images are unreadable or in both splits."""
    del arguments
    findings = check(config.data)
    show(findings, Console())
    return 3 if findings.unreadable or findings.duplicates else 0


if __name__ == "__main__":
    from clonalnet_jax.command import start
    from clonalnet_jax.training.checks import check_config

    start(main, check=check_config)
