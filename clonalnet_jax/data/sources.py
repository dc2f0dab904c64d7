"""Sources of pixels by index: decoded when they are asked for, or held in memory."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from clonalnet_jax.data.images import READABLE, BadImageError
from clonalnet_jax.data.reader import Reader
from clonalnet_jax.data.records import Records
from clonalnet_jax.errors import UserError

# The share of a split's images that may be skipped with on_error = "skip".
MAX_SKIPPED = 0.01


class UnreadableImageError(UserError):
    """An image that cannot be used; `config.data.on_error` decides what follows."""


class DecodedImage(NamedTuple):
    """An image before the part of its augmentation that happens on the device.

    Attributes:
      image: Pixels, uint8 `[h, w, c]`.
      label: Index of its class.
    """

    image: np.ndarray
    label: int


class Source(Protocol):
    """Examples by index."""

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> DecodedImage:
        """One example as evaluation sees it."""

    def augmented(self, index: int, rng: np.random.Generator) -> DecodedImage:
        """One example as training sees it, before it goes onto the device."""

    def name(self, index: int) -> str:
        """The name by which a message calls it."""

    def labels(self) -> np.ndarray:
        """Every label, int32 `[n]`."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Records that are decoded and transformed whenever they are asked for.

    Attributes:
      records: The stored images.
      indices: The indices of those that belong to the source, in order.
      reader: Decodes and transforms an image.
    """

    records: Records
    indices: np.ndarray
    reader: Reader

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int, /) -> DecodedImage:
        """One example as evaluation sees it."""
        return self._read(index, None)

    def augmented(self, index: int, rng: np.random.Generator) -> DecodedImage:
        """One example as training sees it."""
        return self._read(index, rng)

    def name(self, index: int) -> str:
        """File or place of the example."""
        return self.records.name(int(self.indices[index]))

    def labels(self) -> np.ndarray:
        """Every label."""
        return self.records.labels()[self.indices]

    def take(self, indices: np.ndarray) -> "Images":
        """The examples of these indices, in their order."""
        return dataclasses.replace(self, indices=self.indices[indices])

    def _read(self, index: int, rng: np.random.Generator | None) -> DecodedImage:
        try:
            record = self.records[int(self.indices[index])]
            return DecodedImage(self.reader(record.image, rng), record.label)
        except BadImageError as error:
            raise UnreadableImageError(
                f"image {self.name(index)}",
                got=str(error),
                expected=READABLE,
                remedy="mend or remove it, or --config.data.on_error=skip; "
                "python -m clonalnet_jax.data.check lists all of them",
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)  # Arrays have no truth value.
class Arrays:
    """A source decoded in memory, from where it goes onto the device.

    Attributes:
      images: Pixels, uint8 `[n, h, w, c]`.
      classes: The label of each, int32 `[n]`.
      origin: The source that was decoded, of the same length.
    """

    images: np.ndarray
    classes: np.ndarray
    origin: Images

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.classes)

    def __getitem__(self, index: int, /) -> DecodedImage:
        """One example."""
        return DecodedImage(self.images[index], int(self.classes[index]))

    def augmented(self, index: int, rng: np.random.Generator) -> DecodedImage:
        """One example; it is augmented on the device alone."""
        del rng
        return self[index]

    def name(self, index: int) -> str:
        """File or place of the example."""
        return self.origin.name(index)

    def labels(self) -> np.ndarray:
        """Every label."""
        return self.classes


def whole_image(
    source: Source,
    index: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator | None = None,
) -> DecodedImage:
    """One example of a source, of the shape that all examples must have.

    Args:
      source: The source of the example.
      index: Its index in the source.
      shape: The shape that it must have, `(height, width, channels)`.
      rng: The generator of the augmentation; None for evaluation.

    Returns:
      The example.

    Raises:
      UnreadableImageError: It cannot be decoded or is of another shape.
    """
    example = source[index] if rng is None else source.augmented(index, rng)
    if example.image.shape == shape:
        return example
    raise UnreadableImageError(
        f"image {source.name(index)}",
        got=f"{example.image.shape[1]}x{example.image.shape[0]} pixels",
        expected=f"{shape[1]}x{shape[0]}, as the first training image",
        remedy="set --config.data.image_size to crop and resize all images to one size",
    )


def check_skipped(count: int, size: int, errors: Iterable[object] = ()) -> None:
    """Raises `UserError` where more than `MAX_SKIPPED` of the images were skipped."""
    if count <= MAX_SKIPPED * size:
        return
    raise UserError(
        "too many unreadable images",
        got=f"{count} of {size}" + "".join(f"\n    {e}" for e in list(errors)[:1]),
        expected=f"at most {100 * MAX_SKIPPED:g} % with config.data.on_error = 'skip'",
        remedy="python -m clonalnet_jax.data.check --config=... lists all of them",
    )
