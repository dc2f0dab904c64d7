"""Weights by their paths in Flax, `params.Conv_0.kernel`, in the layouts of Flax.

A network of the user's own has no counterpart in PyTorch whose names it could take.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clonalnet_jax.weights.mismatches import check_values, mismatch


def to_paths(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names every array by its path.

    Args:
      variables: `params` and `batch_stats` of any network.

    Returns:
      Contiguous copies, by the parts of their paths joined with dots.
    """
    return {
        _name(path): np.array(array, order="C")
        for path, array in flatten_dict(dict(variables)).items()
    }


def are_paths(names: list[str], shapes: Mapping[str, Any]) -> bool:
    """Whether more than half of the arrays of a network go by their paths in a file.

    Args:
      names: Names in the file.
      shapes: Shapes of the variables, as `jax.eval_shape` of the network's init gives.

    Returns:
      Whether to read the file with `from_paths`.
    """
    wanted = {_name(path) for path in flatten_dict(dict(shapes))}
    return 2 * len(wanted & set(names)) > len(wanted)


def from_paths(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any], *, source: str
) -> dict[str, Any]:
    """Makes the variables of a network from arrays by their paths.

    Args:
      state: Arrays by path, as `to_paths` gives them.
      shapes: Shapes of the variables, as `jax.eval_shape` of the network's init gives.
      source: Name of the file, for the error.

    Returns:
      `params` and `batch_stats` as NumPy arrays.

    Raises:
      UserError: Arrays are missing, unexpected or of another shape, or hold what no
        trained network can; names them all.
    """
    paths = {
        _name(path): (path, leaf) for path, leaf in flatten_dict(dict(shapes)).items()
    }
    wanted = {name: (path, leaf.shape) for name, (path, leaf) in paths.items()}
    misshaped = {
        name: f"{np.shape(state[name])}, not {shape}"
        for name, (_, shape) in wanted.items()
        if name in state and np.shape(state[name]) != shape
    }
    missing = {name: "" for name in wanted if name not in state}
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected or misshaped:
        raise mismatch(source, wanted, missing, unexpected, misshaped)
    check_values(dict(state), source)
    return unflatten_dict(
        {path: np.asarray(state[name]) for name, (path, _) in wanted.items()}
    )


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
