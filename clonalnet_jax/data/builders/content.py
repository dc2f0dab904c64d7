"""What a data set consists of, and the TFDS builder that writes it as ArrayRecord."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow_datasets as tfds


class EncodedImage(NamedTuple):
    """One example to be written.

    Attributes:
      name: where it comes from; unique in its split.
      image: the bytes of an image file.
      label: index of its class.
    """

    name: str
    image: bytes
    label: int


class Content(NamedTuple):
    """A data set to be written.

    Attributes:
      description: what it is and where it comes from.
      class_names: in the order of the labels.
      shape: `(height, width, channels)`, None where images differ.
      splits: by name, a function that goes through the examples.
    """

    description: str
    class_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    splits: Mapping[str, Callable[[], Iterator[EncodedImage]]]


def make_builder(
    name: str, content: Content, data_dir: str | None
) -> tfds.core.GeneratorBasedBuilder:
    """A TFDS builder of version 1.0.0, which needs no TensorFlow.

    Args:
      name: of the data set.
      content: what to write.
      data_dir: TFDS's directory; None for its default.

    Returns:
      The builder; `download_and_prepare` writes.
    """

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
    return Builder(data_dir=data_dir, file_format="array_record")


def _generate(examples: Iterator[EncodedImage]) -> Iterator[tuple[str, dict[str, Any]]]:
    for example in examples:
        image = io.BytesIO(example.image)
        yield example.name, {"image": image, "label": example.label}
