"""TFDS classification data sets in ArrayRecord format, without TensorFlow."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.core import read_only_builder

from clonalnet_jax.data.builders.content import make_builder
from clonalnet_jax.data.builders.digits import digits
from clonalnet_jax.data.records import Split, StoredImage
from clonalnet_jax.errors import UserError

# Built here on first use; every other name must have been prepared before.
_EMBEDDED = {"digits": digits}


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """The examples of a TFDS split, encoded.

    Attributes:
      examples: TFDS's data source; dicts of `image` and `label`.
      title: data set and split.
      num_classes: how many classes.
    """

    examples: Sequence[dict[str, Any]]
    title: str
    num_classes: int

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
                got=f"{type(error).__name__}: {error}",
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
        """Its place."""
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
      The splits.

    Raises:
      UserError: the data set is not prepared or half prepared, not for
        classification, or a split does not exist.
    """
    builder = _builder(config)
    check_whole(Path(builder.data_dir))
    return (
        _open_split(config, builder, config.train_split),
        _open_split(config, builder, config.test_split),
    )


def check_whole(directory: Path) -> None:
    """Refuses a data set whose preparation was broken off or that has lost files.

    Args:
      directory: of the version of a data set, as `<name>/1.0.0`; there need be none.

    Raises:
      UserError: it is not whole.
    """
    if not directory.exists():
        return _check_not_broken_off(directory.parent)
    for split in read_only_builder.builder_from_directory(
        directory
    ).info.splits.values():
        for path in map(Path, split.filepaths):
            if not path.exists() or path.stat().st_size == 0:
                raise UserError(
                    f"TFDS data set {directory}",
                    got=f"no {path.name}"
                    if not path.exists()
                    else f"empty {path.name}",
                    expected=f"all {split.num_shards} files of split {split.name!r}",
                    remedy="delete that directory and prepare the data set again",
                )


def _check_not_broken_off(directory: Path) -> None:
    left = sorted(directory.glob("incomplete.*"))
    if left:
        raise UserError(
            f"TFDS data set {directory}",
            got=f"half prepared: {left[0].name}",
            expected="a preparation that went to its end",
            remedy=f"delete {left[0]} (unless it is being written just now) and "
            "prepare it again",
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
    records = TfdsRecords(examples, title, len(names))
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
    if config.name not in _EMBEDDED:
        return _prepared_builder(config)
    try:
        builder = make_builder(config.name, _EMBEDDED[config.name](), config.path)
        tfds.disable_progress_bar()
        builder.download_and_prepare()
    except Exception as error:  # ArrayRecord has errors of its own for a full disk
        raise UserError(
            f"cannot prepare data set {config.name!r}",
            got=f"{type(error).__name__}: {error}",
            expected="a directory that can be written and has some space left",
            remedy="--config.data.path=DIRECTORY, or set TFDS_DATA_DIR",
        ) from error
    return builder


def _prepared_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    try:
        return read_only_builder.builder_from_files(
            config.name, data_dir=config.path, file_format="array_record"
        )
    except Exception as error:  # TFDS raises half a dozen types for "not there"
        root = Path(config.path or tfds.core.constants.DATA_DIR).expanduser()
        _check_not_broken_off(root / config.name)
        raise UserError(
            f"TFDS data set {config.name!r} is not prepared",
            got=f"{type(error).__name__}: {error}",
            expected=f"ArrayRecord files in {config.path or 'the TFDS directory'}",
            remedy=f"python -m clonalnet_jax.data.prepare {config.name}, or point "
            "--config.data.path to the TFDS directory that holds it",
        ) from error
