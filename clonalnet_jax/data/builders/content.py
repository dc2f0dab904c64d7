"""What a data set consists of, and the TFDS builder that writes it as ArrayRecord."""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from clonalnet_jax.errors import UserError


class EncodedImage(NamedTuple):
    """One example to be written.

    Attributes:
      name: Its place in the source; unique in its split.
      image: The bytes of an image file.
      label: Index of its class.
    """

    name: str
    image: bytes
    label: int


class Content(NamedTuple):
    """A data set to be written.

    Attributes:
      description: A sentence on its content and its source.
      class_names: The names in the order of the labels.
      shape: `(height, width, channels)`, None where images differ.
      splits: A function for each split that goes through its examples.
      notes: Lines that tell the user what was passed over or is not as published.
    """

    description: str
    class_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    splits: Mapping[str, Callable[[], Iterator[EncodedImage]]]
    notes: tuple[str, ...] = ()


def make_builder(
    name: str, content: Content, data_dir: str | None
) -> tfds.core.GeneratorBasedBuilder:
    """Makes a TFDS builder of version 1.0.0, which needs no TensorFlow.

    Args:
      name: The data set's name.
      content: The data set to write.
      data_dir: TFDS's directory; None for its default.

    Returns:
      The builder; `writing.write` writes.

    Raises:
      UserError: TFDS would read other class names than it was given, or cannot find a
        data set of this name.
    """
    check_name(name)
    _check_class_names(content.class_names)

    # Stock data sets may have the same name; theirs and ours are read alike.
    class Builder(
        tfds.core.GeneratorBasedBuilder,
        skip_registration=True,  # type: ignore[call-arg] # mypy sees no TFDS
    ):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=content.shape),
                "label": tfds.features.ClassLabel(names=content.class_names),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=content.description,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            del dl_manager  # nothing to download
            return {split: _generate(go()) for split, go in content.splits.items()}

        def _generate_examples(self) -> Iterator[Any]:
            raise NotImplementedError  # the splits bring their own

    Builder.name = name
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    return Builder(data_dir=data_dir, file_format="array_record")


def check_name(name: str) -> None:
    """Refuses a name under which TFDS would not find the data set again.

    Args:
      name: The data set's name.

    Raises:
      UserError: The name holds something else than small letters, digits and `_`.
    """
    try:
        read = naming.parse_builder_name_kwargs(name)
    except ValueError:
        read = None
    if read == (naming.DatasetName(name=name), {}) and name.isidentifier():
        return
    mended = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not mended[:1].isalpha():
        mended = f"data_{mended}".rstrip("_")
    raise UserError(
        "--name",
        got=repr(name),
        expected="small letters, digits and '_' after a letter: what TFDS can address",
        remedy=f"--name={mended}",
    )


def _check_class_names(names: tuple[str, ...]) -> None:
    """TFDS writes a name a line, and reads without blank lines and blanks around."""
    for name in names:
        if not name or name != name.strip() or "\n" in name or "\r" in name:
            got = f"{name!r}: a line break, a blank at an end, or nothing"
        elif not _is_utf8(name):
            got = f"{name!r}, which is not UTF-8"
        elif names.count(name) > 1:
            got = f"{name!r} more than once"
        else:
            continue
        raise UserError(
            "the name of a class",
            got=got,
            expected="names that a file with one name a line gives back",
            remedy="rename the class's folder or mend the list of names",
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _generate(examples: Iterator[EncodedImage]) -> Iterator[tuple[str, dict[str, Any]]]:
    for example in examples:
        image = io.BytesIO(example.image)
        yield example.name, {"image": image, "label": example.label}
