"""Images and labels: sources, the loader and on-device augmentation."""

from clonalnet_jax.data.augment import PrepareFn, make_prepare, prepare_options
from clonalnet_jax.data.dataset import Dataset, open_dataset, open_splits
from clonalnet_jax.data.loader import Loading
from clonalnet_jax.data.sources import Source

__all__ = [
    "Dataset",
    "Loading",
    "PrepareFn",
    "Source",
    "make_prepare",
    "open_dataset",
    "open_splits",
    "prepare_options",
]
