"""Weights in and out: PyTorch's names and layouts, files, folding of batch norm."""

from clonalnet_jax.weights.folding import fold_batch_norm
from clonalnet_jax.weights.loading import read_weights
from clonalnet_jax.weights.names import from_torch, to_torch
from clonalnet_jax.weights.paths import to_paths
from clonalnet_jax.weights.reading import read_state_dict
from clonalnet_jax.weights.sources import find_weights
from clonalnet_jax.weights.structure import head_path

__all__ = [
    "find_weights",
    "fold_batch_norm",
    "from_torch",
    "head_path",
    "read_state_dict",
    "read_weights",
    "to_paths",
    "to_torch",
]
