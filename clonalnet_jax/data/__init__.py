"""Images and labels: sources, the loader and on-device augmentation."""

from clonalnet_jax.data.augment import make_prepare
from clonalnet_jax.data.loader import eval_batches, train_batches
from clonalnet_jax.data.sources import Dataset, Source, open_dataset

__all__ = [
    "Dataset",
    "Source",
    "eval_batches",
    "make_prepare",
    "open_dataset",
    "train_batches",
]
