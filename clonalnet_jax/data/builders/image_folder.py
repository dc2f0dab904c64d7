"""Any folder of images, as a TFDS data set."""

import functools
from collections.abc import Iterator
from pathlib import Path

from clonalnet_jax.data.builders.archives import escaped
from clonalnet_jax.data.builders.content import Content, EncodedImage
from clonalnet_jax.data.class_folders import open_folder
from clonalnet_jax.data.records import Split


def image_folder(source: Path) -> Content:
    """Reads the images of a folder, divided as `config.data.source = "folder"` does.

    Args:
      source: `<source>/<split>/<class>/<image>` or `<source>/<class>/<image>`.

    Returns:
      Splits `train` and `test`; the notes say what was passed over.

    Raises:
      UserError: A folder is missing or empty, or the splits have other classes.
    """
    train, test = open_folder(source)
    return Content(
        description=f"{len(train.class_names)} classes of images from a folder.",
        class_names=train.class_names,
        shape=(None, None, 3),
        splits={
            "train": functools.partial(_examples, train),
            "test": functools.partial(_examples, test),
        },
        notes=(*train.notes, *test.notes),
    )


def _examples(split: Split) -> Iterator[EncodedImage]:
    for index in range(len(split.records)):
        image, label = split.records[index]
        assert isinstance(image, bytes)
        yield EncodedImage(escaped(split.records.name(index)), image, label)
