"""TFDS classification data sets in ArrayRecord format, without TensorFlow."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.core import read_only_builder

from clonalnet_jax.data.builders import writing
from clonalnet_jax.data.builders.content import make_builder
from clonalnet_jax.data.builders.digits import digits
from clonalnet_jax.data.records import Split, StoredImage
from clonalnet_jax.data.tfds_files import (
    check_descriptions,
    check_not_broken_off,
    check_whole,
    find_damaged,
)
from clonalnet_jax.errors import UserError

# Built here on first use; every other name must have been prepared before.
_EMBEDDED = {"digits": digits}


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """The examples of a TFDS split, encoded.

    Attributes:
      examples: TFDS's data source; dicts of `image` and `label`.
      title: Data set and split.
      num_classes: Number of classes.
      files: The split's ArrayRecord files, to name the damaged one.
    """

    examples: Sequence[dict[str, Any]]
    title: str
    num_classes: int
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int, /) -> StoredImage:
        """Reads one example."""
        try:
            example = self.examples[index]
        except Exception as error:  # ArrayRecord and protobuf have their own
            raise UserError(
                f"cannot read {self.name(index)}",
                got=f"{find_damaged(self.files)}: {type(error).__name__}: {error}",
                expected="`image` and `label` in whole ArrayRecord files",
                remedy="delete the data set's directory and prepare it again",
            ) from error
        label = int(example["label"])
        if not 0 <= label < self.num_classes:
            raise UserError(
                f"label of {self.name(index)}",
                got=str(label),
                expected=f"0 to {self.num_classes - 1}",
                remedy="prepare the data set again, with labels that fit its classes",
            )
        return StoredImage(example["image"], label)

    def name(self, index: int) -> str:
        """Says where the example lies."""
        return f"example {index} of {self.title}"

    def labels(self) -> np.ndarray:
        """The labels; reads every example, 20 microseconds each."""
        return np.asarray([self[i].label for i in range(len(self))], np.int32)


def open_splits(config: ConfigDict) -> tuple[Split, Split]:
    """Opens the training and the test split, preparing the digits on first use.

    Args:
      config: `config.data`; `name` is the TFDS name, `path` the TFDS data directory
        (None for TFDS's own default), a split's name any part that TFDS can name, such
        as `train[:1%]`.

    Returns:
      The training and the test split.

    Raises:
      UserError: The data set is not prepared, half prepared or damaged, or not for
        classification; or a split does not exist.
    """
    builder = _builder(config)
    check_whole(Path(builder.data_dir))
    return (
        _open_split(config, builder, config.train_split),
        _open_split(config, builder, config.test_split),
    )


def _open_split(
    config: ConfigDict, builder: tfds.core.DatasetBuilder, split: str
) -> Split:
    title = f"split {split!r} of TFDS data set {config.name!r}"
    if split.split("[")[0] not in builder.info.splits:
        raise UserError(
            title,
            got="no such split",
            expected=", ".join(builder.info.splits) or "none: nothing is prepared",
            remedy="set --config.data.train_split and --config.data.test_split",
        )
    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    names = getattr(label, "names", None)
    if image is None or names is None or len(image.shape) != 3:
        raise UserError(
            f"TFDS data set {config.name!r}",
            got=f"the features {', '.join(features)}",
            expected="an `image` and a class `label`",
            remedy="choose a data set for classification",
        )
    decoders = {}
    if isinstance(image, tfds.features.Image):
        decoders["image"] = tfds.decode.SkipDecoding()
    try:
        examples = builder.as_data_source(split=split, decoders=decoders)
    except Exception as error:  # TFDS raises half a dozen types for "no such file"
        raise UserError(
            title,
            got=f"{type(error).__name__}: {error}",
            expected=f"whole ArrayRecord files in {builder.data_path}",
            remedy="delete that directory and prepare the data set again",
        ) from error
    files = builder.info.splits[split.split("[")[0]].filepaths
    records = TfdsRecords(examples, title, len(names), tuple(map(str, files)))
    channels = 1 if image.shape[-1] == 1 else 3
    return Split(records, tuple(names), channels, title)


def _builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    if not config.name:
        raise UserError(
            "config.data.name",
            got="not set",
            expected="the name of a TFDS data set",
            remedy="--config.data.name=cifar10, for example",
        )
    path = None if config.path is None else os.path.expanduser(config.path)
    if config.name not in _EMBEDDED:
        return _prepared_builder(config.name, path)
    try:
        builder = make_builder(config.name, _EMBEDDED[config.name](), path)
        tfds.disable_progress_bar()
        writing.write(builder, refuse_leftovers=False)
    except UserError:
        raise
    except Exception as error:  # ArrayRecord has errors of its own for a full disk
        raise UserError(
            f"cannot prepare data set {config.name!r}",
            got=f"{type(error).__name__}: {error}",
            expected="a directory that can be written and has some space left",
            remedy="--config.data.path=DIRECTORY, or set TFDS_DATA_DIR",
        ) from error
    return builder


def _prepared_builder(name: str, path: str | None) -> tfds.core.DatasetBuilder:
    try:
        return read_only_builder.builder_from_files(
            name, data_dir=path, file_format="array_record"
        )
    except Exception as error:  # TFDS raises half a dozen types for "not there"
        root = Path(path or tfds.core.constants.DATA_DIR).expanduser()
        folder = root / name.replace(":", "/")
        check_not_broken_off(folder)
        for described in sorted(folder.glob("**/dataset_info.json")):
            check_descriptions(described.parent)
            if "array_record" in described.read_text(errors="replace"):
                check_whole(described.parent)
        raise UserError(
            f"TFDS data set {name!r} is not prepared",
            got=f"{type(error).__name__}: {error}",
            expected=f"ArrayRecord files in {path or 'the TFDS directory'}",
            remedy=f"python -m clonalnet_jax.data.prepare {name}, or point "
            "--config.data.path to the TFDS directory that holds it",
        ) from error
