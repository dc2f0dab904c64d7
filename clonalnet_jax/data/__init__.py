"""Images and labels: sources, the loader and on-device augmentation."""

from clonalnet_jax.data.augment import make_preprocess, preprocess_options
from clonalnet_jax.data.dataset import Dataset, open_dataset, open_splits
from clonalnet_jax.data.loader import Loading
from clonalnet_jax.data.sources import Source

__all__ = [
    "Dataset",
    "Loading",
    "Source",
    "make_preprocess",
    "open_dataset",
    "open_splits",
    "preprocess_options",
]
