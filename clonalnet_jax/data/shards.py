"""Shards: tar archives whose files of one name are a sample, as WebDataset has them.

`0001.jpg` beside `0001.cls` is an image and its class. The archives stay as they are:
their headers are read once, and an image where it lies.
"""

import dataclasses
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.data.folder_layout import names_of_test
from clonalnet_jax.data.image_files import is_hidden, is_image_name, names_in
from clonalnet_jax.data.labelled import check_complete, divide, order_classes
from clonalnet_jax.data.records import Split, StoredImage
from clonalnet_jax.errors import UserError, displayable

_KEYS = ("label", "cls", "class")
_LONGEST = 100_000  # Bytes of what says the class. More is something else.
_FORMS = (
    "<path>/train-0000.tar and on, with <path>/test-0000.tar or val-0000.tar; or "
    "<path>/train/*.tar with <path>/test/*.tar"
)


class Sample(NamedTuple):
    """An image in a shard.

    Attributes:
      shard: Path of the archive.
      key: Its name in there, up to the first dot.
      offset: The byte that it begins at.
      size: Number of its bytes.
      label: Name or number of its class.
    """

    shard: str
    key: str
    offset: int
    size: int
    label: str

    @property
    def place(self) -> str:
        """Shard and key, for messages."""
        return f"{self.shard}: {self.key}"


@dataclasses.dataclass(frozen=True)
class ShardImages:
    """Images in archives, by columns: there may be millions.

    Attributes:
      shards: Paths of the archives.
      keys: The name of each image.
      places: Number of its archive, offset and size in bytes, int64 `[n, 3]`.
      classes: The label of each, int32 `[n]`.
    """

    shards: tuple[str, ...]
    keys: tuple[str, ...]
    places: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.keys)

    def __getitem__(self, index: int, /) -> StoredImage:
        """Reads one image.

        Raises:
          UserError: The archive is gone or has changed.
        """
        shard, offset, size = self.places[index].tolist()
        try:
            with open(self.shards[shard], "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise self._changed(index, error.strerror or str(error)) from error
        if len(content) < size:
            raise self._changed(index, f"{len(content)} of {size} bytes")
        return StoredImage(content, int(self.classes[index]))

    def name(self, index: int) -> str:
        """Shard and key."""
        return f"{self.shards[self.places[index, 0]]}: {self.keys[index]}"

    def labels(self) -> np.ndarray:
        """Every label."""
        return self.classes

    def _changed(self, index: int, got: str) -> UserError:
        return UserError(
            f"image {self.name(index)}",
            got=got,
            expected="the archive as it was at the start",
            remedy="start again: the archive was changed or taken away",
        )


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Reads the headers of the shards below `config.data.path`.

    Classes are in the order of their names; those that are all whole numbers, in the
    order of the numbers. Without shards of a test split, the same share of every class
    is the test split.

    Args:
      config: The section `config.data`.

    Returns:
      Training and test split; nothing is decoded.

    Raises:
      UserError: There are no shards, one is compressed or damaged, or a sample has no
        image, several, or no class.
    """
    if not config.path:
        remedy = "--config.data.path=/path/to/shards"
        raise _bad("config.data.path", "not set", remedy)
    path, notes = Path(config.path).expanduser(), list[str]()
    shards = _find(path, (config.train_split,))
    if not shards:
        got = f"no {config.train_split}*.tar"
        raise _bad(f"folder {path}", got, "check the path and config.data.train_split")
    named = names_of_test(config.test_split)
    train, test = (
        [sample for shard in several for sample in _read(shard)]
        for several in (shards, _find(path, named))
    )
    what = f"shards {path}"
    names = order_classes(what, path, train, test)
    if not test:
        train, test = divide(train, names, config)
        share = f"{len(test):,} images, {config.test_fraction:g} of every class,"
        notes.append(f"{path} has no {named[0]}*.tar: {share} are drawn for testing")
    for split, samples in ((config.train_split, train), (config.test_split, test)):
        check_complete(what, split, samples, names)
    lines = tuple(map(displayable, notes))
    return _split(what, names, train, lines), _split(what, names, test, ())


def _find(folder: Path, splits: Sequence[str]) -> list[Path]:
    """The shards of the first of these splits that has some, in order."""
    found = names_in(folder)
    for split in splits:
        inside = split and found.get(split)
        where = folder / split if inside else folder
        names = names_in(where) if inside else found
        shards = [
            where / name
            for name, is_folder in names.items()
            if not (is_folder or is_hidden(name)) and (inside or _is_of(name, split))
        ]
        for shard in shards:
            if shard.name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz")):
                remedy = "decompress it: an image is read where it lies"
                raise _bad(f"shard {shard}", "a compressed archive", remedy)
        if shards := [shard for shard in shards if shard.suffix == ".tar"]:
            return sorted(shards)
    return []


def _is_of(name: str, split: str) -> bool:
    """Whether `train-0001.tar` is of `train`, and `training.tar` is not."""
    rest = name.removeprefix(split)
    return name.startswith(split) and not rest[:1].isalpha()


def _read(shard: Path) -> Iterator[Sample]:
    """Reads the headers of an archive, and what is said of classes."""
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            key, members, seen = "", list[tarfile.TarInfo](), set[str]()
            for member in archive:
                if not member.isreg() or is_hidden(os.path.basename(member.name)):
                    continue
                now = _key(member.name)
                if now != key and members:
                    yield _sample(shard, key, members, file)
                    members = []
                    if now in seen:
                        got = f"{now} again, after other samples"
                        raise _bad(f"shard {shard}", got, "write it anew, by sample")
                seen.add(now)
                key = now
                members.append(member)
            if members:
                yield _sample(shard, key, members, file)
            _check_end(shard, file, archive.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _bad(f"shard {shard}", got, "fetch or write it again") from error


def _check_end(shard: Path, file: IO[bytes], offset: int) -> None:
    """Refuses what has lost its end, or goes on behind it, as joined archives do."""
    file.seek(offset)
    blocks = 0
    while block := file.read(tarfile.RECORDSIZE):
        blocks += 1
        if block.strip(b"\0"):
            got = f"it goes on behind its end, at byte {offset:,}"
            raise _bad(f"shard {shard}", got, "leave archives that were joined apart")
    if not blocks:
        raise _bad(f"shard {shard}", "it ends before its end", "fetch it again")


def _key(name: str) -> str:
    """The name up to its first dot, with the folders before it."""
    folder, _, file = name.rpartition("/")
    return os.path.join(folder, file.partition(".")[0])


def _sample(
    shard: Path, key: str, members: Sequence[tarfile.TarInfo], file: IO[bytes]
) -> Sample:
    place = f"{shard}: {key}"
    images = [member for member in members if is_image_name(member.name)]
    if len(images) != 1:
        names = ", ".join(os.path.basename(member.name) for member in members)
        raise _bad(
            place,
            f"{len(images)} images among {names}",
            "a sample has one image",
            expected="one file that ends as an image does",
        )
    (image,) = images
    label = _label(place, members, file)
    return Sample(str(shard), key, image.offset_data, image.size, label)


def _label(place: str, members: Sequence[tarfile.TarInfo], file: IO[bytes]) -> str:
    """What `.cls` says, or a field of `.json`."""
    for member in members:
        _, _, ending = os.path.basename(member.name).partition(".")
        if ending not in ("cls", "json") or member.size > _LONGEST:
            continue
        file.seek(member.offset_data)
        content = file.read(member.size)
        try:
            found = _parse(ending, content)
        except (ValueError, RecursionError) as error:
            remedy = f"write a name or number into its .{ending}"
            raise _bad(f"{place}.{ending}", str(error), remedy, expected="text") from (
                error
            )
        if found:
            return found
    names = ", ".join(os.path.basename(member.name) for member in members)
    raise _bad(
        place,
        f"no class among {names}",
        "add it to every sample",
        expected=f"a name or number in .cls, or in .json under {', '.join(_KEYS)}",
    )


def _parse(ending: str, content: bytes) -> str:
    if ending == "cls":
        return content.decode().strip()
    fields = json.loads(content)
    if not isinstance(fields, dict):
        return ""
    values = (fields.get(key) for key in _KEYS)
    known = (x for x in values if isinstance(x, str | int) and not isinstance(x, bool))
    return str(next(known, "")).strip()


def _split(
    what: str, names: list[str], samples: list[Sample], notes: tuple[str, ...]
) -> Split:
    index = {name: number for number, name in enumerate(names)}
    shards = tuple(dict.fromkeys(sample.shard for sample in samples))
    number_of = {shard: number for number, shard in enumerate(shards)}
    places = [(number_of[one.shard], one.offset, one.size) for one in samples]
    records = ShardImages(
        shards,
        tuple(sample.key for sample in samples),
        np.asarray(places, np.int64),
        np.asarray([index[sample.label] for sample in samples], np.int32),
    )
    return Split(records, tuple(names), 3, what, notes)


def _bad(culprit: str, got: str, remedy: str, *, expected: str = _FORMS) -> UserError:
    return UserError(culprit, got=got, expected=expected, remedy=remedy)
