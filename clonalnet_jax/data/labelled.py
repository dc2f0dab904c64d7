"""Images that come with their class by name: rows of a manifest, samples of a shard."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from ml_collections import ConfigDict

from clonalnet_jax.data.folder_layout import check_readable_names
from clonalnet_jax.data.records import draw_test_share
from clonalnet_jax.errors import UserError


class Labelled(Protocol):
    """An image that says of which class it is."""

    @property
    def place(self) -> str:
        """Where it is from, for messages."""

    @property
    def label(self) -> str:
        """Name or number of its class."""


_Image = TypeVar("_Image", bound=Labelled)


class Row(NamedTuple):
    """An image of a manifest.

    Attributes:
      place: File and line, for messages.
      path: Path of the image, relative to the manifest's folder.
      label: Name or number of its class.
      split: Name of its split; empty where the manifest has no such column.
    """

    place: str
    path: str
    label: str
    split: str


def order_classes(
    what: str, path: Path, train: Sequence[Labelled], test: Sequence[Labelled]
) -> list[str]:
    """Names the classes, in their order: that of numbers where all are numbers.

    Args:
      what: The whole of the images, such as `manifest all.csv`, for messages.
      path: The file or folder that they are from.
      train: Training images.
      test: Test images; none where they are still to be drawn.

    Returns:
      The names.

    Raises:
      UserError: There are less than two, one is only in the test split, or names cannot
        be told apart.
    """
    found = {image.label for image in train}
    if len(found) < 2:
        raise UserError(
            what,
            got=f"{len(found)} class in the training split",
            expected="at least two classes",
            remedy="add images of others",
        )
    for image in test:
        if image.label not in found:
            close = difflib.get_close_matches(image.label, found, n=1)
            raise UserError(
                f"class {image.label!r} in {image.place}",
                got="no image of it in the training split",
                expected=f"one of the {len(found)} classes that are trained on",
                remedy=f"did you mean {close[0]!r}?"
                if close
                else "add some, or remove it",
            )
    numbers = all(name.isascii() and name.isdigit() for name in found)
    names = sorted(found, key=(lambda name: (int(name), name)) if numbers else None)
    check_readable_names(path, names)
    return names


def divide(
    images: Sequence[_Image], names: Sequence[str], config: ConfigDict
) -> tuple[list[_Image], list[_Image]]:
    """Draws `config.test_fraction` of every class for testing.

    Args:
      images: All images.
      names: Names of the classes.
      config: The section `config.data`.

    Returns:
      The training and the test images.
    """
    by_class: dict[str, list[_Image]] = {name: [] for name in names}
    for image in images:
        by_class[image.label].append(image)
    parts = draw_test_share(
        list(by_class.values()), config.test_fraction, config.split_seed
    )
    train, test = ([image for images in part for image in images] for part in parts)
    return train, test


def check_complete(
    what: str, split: str, images: Sequence[Labelled], names: Sequence[str]
) -> None:
    """Refuses a split that has no image of some class.

    Args:
      what: The whole of the images, for the message.
      split: Name of the split.
      images: Its images.
      names: Names of the classes.

    Raises:
      UserError: There is none.
    """
    lacking = sorted(set(names) - {image.label for image in images})
    if lacking:
        raise UserError(
            what,
            got=f"no image in {split} of {', '.join(map(repr, lacking[:6]))}",
            expected="images of every class in both splits",
            remedy="add images, or set another --config.data.test_fraction where no "
            "split is named",
        )
