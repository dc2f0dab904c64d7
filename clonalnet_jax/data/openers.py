"""The table of data sources: what opens the data set that a config names."""

from collections.abc import Callable

from ml_collections import ConfigDict

from clonalnet_jax.data import class_folders, tfds_source
from clonalnet_jax.data.records import Split

OPENERS: dict[str, Callable[[ConfigDict], tuple[Split, Split]]] = {
    "folder": class_folders.open_splits,
    "tfds": tfds_source.open_splits,
}
"""What opens the training and the test split, by its name in `config.data.source`.

Each is given the section `config.data`.
"""
