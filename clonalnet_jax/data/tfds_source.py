"""TFDS classification data sets in ArrayRecord format, without TensorFlow."""

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from clonalnet_jax.data.digits import Digits
from clonalnet_jax.errors import UserError

# Built here on first use; every other name must have been prepared before.
_OUR_BUILDERS = {"digits": Digits}


def read(config: ConfigDict, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Reads one split into memory, preparing our own data sets on first use.

    Args:
      config: `config.data`; `name` is the TFDS name, `path` the TFDS data directory
        (None for TFDS's own default).
      split: such as `train`.

    Returns:
      Images uint8 `[n, h, w, c]`, labels int32 `[n]`, class names.

    Raises:
      UserError: the data set is not prepared, not for classification, or the split
        does not exist.
    """
    builder = _builder(config)
    if split not in builder.info.splits:
        raise UserError(
            f"split {split!r} of TFDS data set {config.name!r}",
            got="no such split",
            expected=", ".join(builder.info.splits),
            remedy="set --config.data.train_split and --config.data.test_split",
        )
    try:
        names = builder.info.features["label"].names
        source = builder.as_data_source(split=split)
        examples = source.__getitems__(range(len(source)))
        images = np.stack([example["image"] for example in examples])
        labels = np.asarray([example["label"] for example in examples], np.int32)
    except Exception as error:
        raise UserError(
            f"cannot read TFDS data set {config.name!r} in {builder.data_path}",
            got=f"{type(error).__name__}: {error}",
            expected="`image` of one size and `label`, as ArrayRecord files",
            remedy="delete that directory and prepare the data set again",
        ) from error
    return images, labels, names


def _builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
    if config.name not in _OUR_BUILDERS:
        return _prepared_builder(config)
    try:
        builder = _OUR_BUILDERS[config.name](
            data_dir=config.path, file_format="array_record"
        )
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
        return tfds.builder_from_files(
            config.name, data_dir=config.path, file_format="array_record"
        )
    except Exception as error:  # TFDS raises half a dozen types for "not there"
        raise UserError(
            f"TFDS data set {config.name!r} is not prepared",
            got=f"{type(error).__name__}: {error}",
            expected=f"ArrayRecord files in {config.path or 'the TFDS directory'}",
            remedy="prepare it with TFDS (file_format='array_record') and point "
            "--config.data.path to the directory",
        ) from error
