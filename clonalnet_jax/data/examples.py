"""Examples as other libraries hold them, stacked into arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clonalnet_jax.errors import UserError

Examples = Any
"""A pair of arrays, or anything with `len()` that gives an example for each index."""


class Stacked(NamedTuple):
    """Images `[n, ...]`, labels `[n]` and, if they are known, the names of classes."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None


def stack_examples(examples: Examples, split: str, class_names: Any) -> Stacked:
    """Makes two arrays of the examples of a split.

    Args:
      examples: A pair of arrays, or examples by index; see `arrays.from_arrays`.
      split: Name of the split, for messages.
      class_names: Names that the user gives; None asks the examples for theirs.

    Returns:
      The arrays, whose shapes and dtypes are not checked yet.

    Raises:
      UserError: They are neither, an example has no image and label, or the images are
        of different sizes.
    """
    if isinstance(examples, tuple | list) and len(examples) == 2:
        images, labels = (np.asarray(part) for part in examples)
        return Stacked(images, labels, None)
    if not (hasattr(examples, "__len__") and hasattr(examples, "__getitem__")):
        raise _bad(split, type(examples).__name__)
    pairs = [_pair(examples[index], split, index) for index in range(len(examples))]
    if not pairs:
        raise _bad(split, "no examples")
    pixels = [_pixels(image) for image, _ in pairs]
    if len({image.ndim for image in pixels}) > 1:  # Some are grey: all become RGB.
        pixels = [_with_channels(image) for image in pixels]
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        raise UserError(
            f"from_arrays: {split}",
            got=f"images of {len(shapes)} sizes, such as "
            + ", ".join(map(str, sorted(shapes)[:3])),
            expected="images of one size",
            remedy="resize them first, or keep them as files: a folder's images may "
            "have any size, with --config.data.image_size",
        )
    names = None if class_names is not None else _names(examples)
    return Stacked(np.stack(pixels), np.asarray([label for _, label in pairs]), names)


def _pair(example: Any, split: str, index: int) -> tuple[Any, Any]:
    if isinstance(example, Mapping):
        keys = [
            next((key for key in wanted if key in example), None)
            for wanted in (("image", "img", "pixels"), ("label", "labels", "class"))
        ]
        if None not in keys:
            return example[keys[0]], example[keys[1]]
        raise _bad(split, f"example {index} with {', '.join(map(str, example))}")
    if isinstance(example, tuple | list) and len(example) == 2:
        return example[0], example[1]
    raise _bad(split, f"example {index} of type {type(example).__name__}")


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return np.asarray(image)


def _with_channels(image: np.ndarray) -> np.ndarray:
    return np.stack([image] * 3, axis=-1) if image.ndim == 2 else image


def _names(examples: Any) -> tuple[str, ...] | None:
    """The class names of a Hugging Face or a torchvision dataset."""
    features = getattr(examples, "features", None)
    if isinstance(features, Mapping) and "label" in features:
        found = getattr(features["label"], "names", None)
    else:
        found = getattr(examples, "classes", None)
    return tuple(map(str, found)) if isinstance(found, tuple | list) else None


def _bad(split: str, got: str) -> UserError:
    return UserError(
        f"from_arrays: {split}",
        got=got,
        expected="a pair (images, labels) of arrays, or examples by index, each a pair "
        "(image, label) or a mapping with `image` and `label`",
        remedy="docs/data.md says what is taken",
    )
