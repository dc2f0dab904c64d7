"""Tiny-ImageNet from its official directory or zip file (Stanford CS231n 2015).

The files are kept as they are; some are grey, which the reader turns to RGB.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clonalnet_jax.data.builders.archives import Tree, escaped, open_tree
from clonalnet_jax.data.builders.content import Content, EncodedImage
from clonalnet_jax.data.image_files import is_image_name
from clonalnet_jax.errors import UserError

_ANNOTATIONS = "val/val_annotations.txt"
_WHOLE = "give the directory or zip file as it was downloaded"


class _Source(NamedTuple):
    path: Path
    tree: Tree


def tiny_imagenet(source: Path) -> Content:
    """Reads 200 classes of 64x64 pixels, or those that the directory holds.

    Labels are in the order of the WordNet ids, as for any folder; the classes are
    called by their first word, with the id where two have the same. `val/` may be as
    it was published, with annotations, or sorted into a folder for each class. Each
    image is used once, or named as the reason why nothing is.

    Args:
      source: Directory or zip file with `wnids.txt`, `words.txt`, `train/` and `val/`.

    Returns:
      Splits `train` and `validation`.

    Raises:
      UserError: It is damaged or not this data set, or holds an image that no class
        or annotation names, or lacks one.
    """
    opened = _Source(source, open_tree(source, below="wnids.txt"))
    wnids = sorted(set(_text(opened, "wnids.txt").split()))
    train = _by_folder(opened, "train", wnids)
    # A subset of the data set may come with the whole list.
    present = {wnid: names for wnid, names in train.items() if names}
    if len(present) < 2:
        raise _wrong(
            opened,
            f"images of {len(present)} classes of the {len(wnids)} in wnids.txt",
            "train/<wnid>/images/*.JPEG of at least two classes",
            _WHOLE,
        )
    labels = {wnid: label for label, wnid in enumerate(present)}
    files = [(name, labels[wnid]) for wnid, names in present.items() for name in names]
    validation = _validation(opened, labels)
    return Content(
        description=f"{len(present)} classes of Tiny-ImageNet, 64x64 pixels.",
        class_names=_class_names(opened, list(present)),
        shape=(64, 64, 3),
        splits={
            "train": functools.partial(_examples, opened.tree, files),
            "validation": functools.partial(_examples, opened.tree, validation),
        },
        notes=_notes(opened, [wnid for wnid in wnids if wnid not in present]),
    )


def _examples(tree: Tree, files: list[tuple[str, int]]) -> Iterator[EncodedImage]:
    for name, label in files:
        yield EncodedImage(escaped(name), tree[name](), label)


def _images(source: _Source, folder: str) -> list[str]:
    return sorted(
        name
        for name in source.tree
        if name.startswith(f"{folder}/") and is_image_name(name)
    )


def _by_folder(source: _Source, split: str, wnids: list[str]) -> dict[str, list[str]]:
    """The images of each class by the folder that they lie in."""
    found: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    for name in _images(source, split):
        wnid = name.split("/")[1]
        if wnid not in found:
            raise _wrong(
                source,
                f"{name}, in no folder of a class",
                f"a folder called like one of the {len(wnids)} classes in wnids.txt",
                "add the class to wnids.txt or remove the image",
            )
        found[wnid].append(name)
    return found


def _validation(source: _Source, labels: dict[str, int]) -> list[tuple[str, int]]:
    """The validation images and their labels, by folders or by annotations."""
    names = _images(source, "val")
    annotated = _annotations(source) if _ANNOTATIONS in source.tree else {}
    flat = [name for name in names if name.startswith("val/images/")]
    if not names or (flat and len(flat) < len(names)):
        raise _wrong(
            source,
            f"{len(flat)} images in val/images and {len(names) - len(flat)} in other "
            "folders of val",
            "all validation images in val/images, or all in folders of classes",
            _WHOLE,
        )
    if flat and _ANNOTATIONS not in source.tree:
        raise _wrong(source, f"no {_ANNOTATIONS}", "the labels of val/images", _WHOLE)
    wnids = [_wnid(source, name, annotated, bool(flat)) for name in names]
    _check_annotated(source, names, annotated, labels)
    for name, wnid in zip(names, wnids, strict=True):
        if wnid not in labels:
            raise _wrong(
                source,
                f"class {wnid} for {name}",
                f"one of the {len(labels)} classes below train/",
                "add the class's training images or remove the image",
            )
    return [(name, labels[wnid]) for name, wnid in zip(names, wnids, strict=True)]


def _wnid(source: _Source, name: str, annotated: dict[str, str], flat: bool) -> str:
    file, folder = name.split("/")[-1], name.split("/")[1]
    if flat and file not in annotated:
        raise _wrong(
            source,
            f"{name}, which {_ANNOTATIONS} does not name",
            "an annotation for every validation image",
            "remove the image or download the archive again",
        )
    if not flat and annotated.get(file, folder) != folder:
        raise _wrong(
            source,
            f"{name}, which {_ANNOTATIONS} gives to {annotated[file]}",
            "a folder and an annotation that agree",
            f"remove {_ANNOTATIONS} where the folders are right",
        )
    return annotated[file] if flat else folder


def _check_annotated(
    source: _Source, names: list[str], annotated: dict[str, str], labels: dict[str, int]
) -> None:
    """Refuses a `val/` without some image that is annotated, of the classes here."""
    count = Counter(name.split("/")[-1] for name in names)
    for file, wnid in annotated.items():
        if count[file] != 1 and (count[file] > 1 or wnid in labels):
            raise _wrong(
                source,
                f"{count[file] or 'no'} {file} below val",
                f"each image of {_ANNOTATIONS}, once",
                "download the archive again, or remove the line",
            )


def _annotations(source: _Source) -> dict[str, str]:
    """The class of each validation image by its file name."""
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(source, _ANNOTATIONS), 1):
        if not line.strip():
            continue
        file, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0].strip()
        if not wnid or found.setdefault(file, wnid) != wnid:
            raise _wrong(
                source,
                f"{line!r} in line {number} of {_ANNOTATIONS}",
                "a file name and one class with a tab between",
                "mend the line or download the archive again",
            )
    return found


def _class_names(source: _Source, wnids: list[str]) -> tuple[str, ...]:
    lines = _lines(source, "words.txt")
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    first = [words.get(wnid, wnid).split(",")[0].strip() or wnid for wnid in wnids]
    count = Counter(first)
    pairs = zip(first, wnids, strict=True)
    return tuple(f"{n} ({wnid})" if count[n] > 1 else n for n, wnid in pairs)


def _notes(source: _Source, absent: list[str]) -> tuple[str, ...]:
    """Says what is passed over."""
    notes = []
    if absent:
        notes.append(
            f"A SUBSET: {len(absent)} classes of wnids.txt have no training images "
            f"({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''})"
        )
    others = [
        name
        for name in sorted(source.tree)
        if name.startswith(("train/", "val/"))
        and not is_image_name(name)
        and not name.endswith(".txt")
    ]
    if others:
        some = escaped(", ".join(others[:3]))
        more = ", ..." if len(others) > 3 else ""
        notes.append(
            f"IGNORED: {len(others)} files that end as no image ({some}{more})"
        )
    return tuple(notes)


def _lines(source: _Source, name: str) -> list[str]:
    # Not splitlines, which also divides at characters that Latin-1 texts may hold.
    return [line.rstrip("\r") for line in _text(source, name).split("\n")]


def _text(source: _Source, name: str) -> str:
    """A text file in UTF-8, with a byte-order mark or without, or else in Latin-1."""
    if name not in source.tree:
        expected = f"wnids.txt, words.txt, train/ and {_ANNOTATIONS}"
        raise _wrong(source, f"no {name}", expected, _WHOLE)
    content = source.tree[name]()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _wrong(source: _Source, got: str, expected: str, remedy: str) -> UserError:
    return UserError(
        f"--source {escaped(str(source.path))}",
        got=escaped(got),
        expected=expected,
        remedy=remedy,
    )
