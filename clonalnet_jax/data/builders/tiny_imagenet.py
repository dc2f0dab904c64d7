"""Tiny-ImageNet from its official directory or zip file (Stanford CS231n 2015).

The files are kept as they are; some are grey, which the reader turns to RGB.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from clonalnet_jax.data.builders.archives import Tree, open_tree
from clonalnet_jax.data.builders.content import Content, EncodedImage
from clonalnet_jax.errors import UserError


def tiny_imagenet(source: Path) -> Content:
    """200 classes of 64x64 pixels, or those that the directory holds.

    Labels are in the order of the WordNet ids, as for any folder; the classes are
    called by their first word, with the id where two have the same.

    Args:
      source: directory or zip file with `wnids.txt`, `words.txt`, `train/` and `val/`.

    Returns:
      Splits `train` and `validation`.

    Raises:
      UserError: it is damaged, or not this data set.
    """
    tree = open_tree(source, below="wnids.txt")
    wnids = sorted(_text(source, tree, "wnids.txt").split())
    train: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    for name in sorted(tree):
        parts = name.split("/")
        if parts[0] == "train" and parts[2:3] == ["images"] and parts[1] in train:
            train[parts[1]].append(name)
    # A subset of the data set may come with the whole list.
    present = {wnid: names for wnid, names in train.items() if names}
    if len(present) < 2:
        raise UserError(
            f"--source {source}",
            got=f"images of {len(present)} classes of the {len(wnids)} in wnids.txt",
            expected="train/<wnid>/images/*.JPEG of at least two classes",
            remedy="give the directory or zip file as it was downloaded",
        )
    labels = {wnid: label for label, wnid in enumerate(present)}
    files = [(name, labels[wnid]) for wnid, names in present.items() for name in names]
    return Content(
        description=f"{len(present)} classes of Tiny-ImageNet, 64x64 pixels.",
        class_names=_class_names(source, tree, list(present)),
        shape=(64, 64, 3),
        splits={
            "train": functools.partial(_examples, tree, files),
            "validation": functools.partial(
                _examples, tree, _validation(source, tree, labels)
            ),
        },
    )


def _examples(tree: Tree, files: list[tuple[str, int]]) -> Iterator[EncodedImage]:
    for name, label in files:
        yield EncodedImage(name, tree[name](), label)


def _validation(
    source: Path, tree: Tree, labels: dict[str, int]
) -> list[tuple[str, int]]:
    files = []
    for line in _text(source, tree, "val/val_annotations.txt").splitlines():
        file, wnid = line.split("\t")[:2]
        name = f"val/images/{file}"
        if name not in tree:
            continue  # of a class that is not in this subset
        if wnid not in labels:
            raise UserError(
                f"--source {source}, val/val_annotations.txt",
                got=f"class {wnid} for {file}",
                expected=f"one of the {len(labels)} classes below train/",
                remedy="add the class's training images or remove the image",
            )
        files.append((name, labels[wnid]))
    return files


def _class_names(source: Path, tree: Tree, wnids: list[str]) -> tuple[str, ...]:
    lines = _text(source, tree, "words.txt").splitlines()
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    first = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    count = Counter(first)
    pairs = zip(first, wnids, strict=True)
    return tuple(f"{n} ({wnid})" if count[n] > 1 else n for n, wnid in pairs)


def _text(source: Path, tree: Tree, name: str) -> str:
    if name not in tree:
        raise UserError(
            f"--source {source}",
            got=f"no {name}",
            expected="wnids.txt, words.txt, train/ and val/val_annotations.txt",
            remedy="give the directory or zip file as it was downloaded",
        )
    return tree[name]().decode()
