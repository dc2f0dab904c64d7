"""CIFAR-10 and CIFAR-100 from their official Python archives."""

import functools
import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clonalnet_jax.data.builders.archives import Tree, damaged, escaped, open_tree
from clonalnet_jax.data.builders.byte_pickle import ForeignError, unpickle
from clonalnet_jax.data.builders.content import Content, EncodedImage
from clonalnet_jax.errors import UserError


class _Kind(NamedTuple):
    """How one of the two data sets is stored.

    Attributes:
      meta: The file of the class names.
      names_key: Their key in it.
      labels_key: The key of the labels in a batch.
      splits: The batches of each split, and the MD5 sum of each as its authors
        publish it (torchvision compares the same).
      sizes: The number of images in one batch of each split.
    """

    meta: str
    names_key: bytes
    labels_key: bytes
    splits: Mapping[str, Mapping[str, str]]
    sizes: Mapping[str, int]


_CIFAR10 = _Kind(
    meta="batches.meta",
    names_key=b"label_names",
    labels_key=b"labels",
    splits={
        "train": {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    },
    sizes={"train": 10_000, "test": 10_000},
)
_CIFAR100 = _Kind(
    meta="meta",
    names_key=b"fine_label_names",
    labels_key=b"fine_labels",
    splits={
        "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    },
    sizes={"train": 50_000, "test": 10_000},
)


def cifar10(source: Path) -> Content:
    """Reads `cifar-10-python.tar.gz`, or the directory in it.

    Args:
      source: Archive or directory.

    Returns:
      50,000 training and 10,000 test images of 32x32; the notes say where the files are
      not the authors'.

    Raises:
      UserError: It is damaged or not this data set; a batch is missing, double, of
        another size than the others, or has a copy beside it.
    """
    return _content(source, open_tree(source, below="batches.meta"), _CIFAR10)


def cifar100(source: Path) -> Content:
    """Reads `cifar-100-python.tar.gz`, or the directory in it; the 100 fine labels.

    Args:
      source: Archive or directory.

    Returns:
      50,000 training and 10,000 test images of 32x32; the notes say where the files are
      not the authors'.

    Raises:
      UserError: It is damaged or not this data set; a file is missing, double, or has a
        copy beside it.
    """
    return _content(source, open_tree(source, below="meta"), _CIFAR100)


def _content(source: Path, tree: Tree, kind: _Kind) -> Content:
    _check_files(source, tree, kind)
    found = _load(source, tree, kind.meta, kind.names_key)
    try:
        names = tuple(name.decode() for name in found)
    except (AttributeError, TypeError, UnicodeDecodeError) as error:
        raise damaged(source / kind.meta, error) from error
    notes = _check_batches(source, tree, kind, len(names))
    return Content(
        description=f"CIFAR-{len(names)} (Krizhevsky 2009), from its Python archive.",
        class_names=names,
        shape=(32, 32, 3),
        splits={
            split: functools.partial(
                _examples, source, tree, list(files), kind, len(names)
            )
            for split, files in kind.splits.items()
        },
        notes=notes,
    )


def _check_files(source: Path, tree: Tree, kind: _Kind) -> None:
    """Refuses a set of files that is not the authors': one less, or a copy more."""
    batches = [name for files in kind.splits.values() for name in files]
    stems = {"data_batch", "test_batch"} if len(batches) == 6 else set(batches)
    missing = [name for name in batches if name not in tree]
    extra = [
        name
        for name in sorted(tree)
        if "/" not in name
        and name not in batches
        and any(stem in name for stem in stems)
    ]
    if missing or extra:
        lacks = [f"no {', '.join(missing)}"] if missing else []
        more = [f"also {escaped(', '.join(extra[:5]))}"] if extra else []
        raise UserError(
            f"--source {escaped(str(source))}",
            got="; ".join(lacks + more),
            expected=f"exactly the files {', '.join(batches)}",
            remedy="remove copies; unpack the archive again where a file is missing",
        )


def _check_batches(
    source: Path, tree: Tree, kind: _Kind, classes: int
) -> tuple[str, ...]:
    """Looks at every batch before anything is written; says what is not original."""
    seen: dict[bytes, str] = {}
    other, counts = [], {}
    for files in kind.splits.values():
        for file, md5 in files.items():
            data, labels = _batch(source, tree, file, kind, classes)
            counts[file] = len(labels)
            twin = seen.setdefault(hashlib.sha256(data.tobytes()).digest(), file)
            if twin != file:
                raise _unequal(source, f"{file} with the images of {twin}")
            content = tree[file]()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                other.append(file)
        of_split = [counts[file] for file in files]
        if len(set(of_split)) > 1 or not all(of_split):
            raise _unequal(source, _listed(counts))
    official = {
        f: kind.sizes[split] for split in kind.splits for f in kind.splits[split]
    }
    if counts != official and set(counts.items()) & set(official.items()):
        raise _unequal(source, _listed(counts))
    if not other:
        return ()
    return (
        f"NOT THE ORIGINAL {escaped(str(source))}: {', '.join(other)} differ from the "
        f"authors' files; images: {_listed(counts)}",
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} in {file}" for file, count in counts.items())


def _unequal(source: Path, got: str) -> UserError:
    return UserError(
        f"--source {escaped(str(source))}",
        got=got,
        expected="the same number of images in each batch, all of them different",
        remedy="download the archive again",
    )


def _batch(
    source: Path, tree: Tree, file: str, kind: _Kind, classes: int
) -> tuple[np.ndarray, list[int]]:
    """The pixels, uint8 `[n, 3072]`, and the labels of a batch."""
    data = _load(source, tree, file, b"data")
    labels = _load(source, tree, file, kind.labels_key)
    known = set(range(classes))
    if (
        not isinstance(data, np.ndarray)
        or not isinstance(labels, list)
        or data.shape != (len(labels), 3072)
        or not all(type(label) is int and label in known for label in labels)
    ):
        raise UserError(
            f"--source {escaped(str(source))}, file {file}",
            got=f"data of shape {getattr(data, 'shape', None)}, {_range(labels)}",
            expected=f"3072 bytes an image and labels below {classes}",
            remedy="download the archive again",
        )
    return data, labels


def _range(labels: Any) -> str:
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        return "labels that are no list of integers"
    low, high = min(labels, default=0), max(labels, default=0)
    return f"{len(labels)} labels from {low} to {high}"


def _examples(
    source: Path, tree: Tree, files: list[str], kind: _Kind, classes: int
) -> Iterator[EncodedImage]:
    for file in files:
        data, labels = _batch(source, tree, file, kind, classes)
        images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(png, "PNG")
            yield EncodedImage(f"{file} {number}", png.getvalue(), label)


def _load(source: Path, tree: Tree, file: str, key: bytes) -> Any:
    try:
        return _unpickle(tree[file]())[key]
    except UserError:
        raise
    except ForeignError as error:
        raise UserError(
            f"--source {escaped(str(source))}, file {file}",
            got=f"a pickle that asks for {escaped(str(error))}",
            expected="arrays of bytes, lists and names; it was not run",
            remedy="do not trust this archive: get it from its authors' page",
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise damaged(source / file, error) from error


# Kept for the two reads of a file, which is 30 MB at least.
_unpickle = functools.lru_cache(maxsize=1)(unpickle)
