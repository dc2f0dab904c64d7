"""The table of data sources, each with the function that opens its data sets."""

from collections.abc import Callable

from ml_collections import ConfigDict

from clonalnet_jax.data import arrays, class_folders, manifest, shards, tfds_source
from clonalnet_jax.data.records import Split

OPENERS: dict[str, Callable[[ConfigDict], tuple[Split, Split]]] = {
    "arrays": arrays.open_splits,
    "folder": class_folders.open_splits,
    "manifest": manifest.open_splits,
    "shards": shards.open_splits,
    "tfds": tfds_source.open_splits,
}
"""The function that opens a source's two splits, by its name in `config.data.source`.

It is given the section `config.data`, and returns the training and the test split.
"""
