"""PyTorch's names and layouts from ours, by rule.

A module's path joined with dots is PyTorch's name once every `_<number>` that ends a
part is `.<number>`: `layer1_0.conv1` is `layer1.0.conv1`, `features_1.conv_0_0` is
`features.1.conv.0.0`. A kernel is a `weight` with its axes turned around, a `scale` is
a `weight`, running statistics are `running_mean` and `running_var`, and every other
array keeps its name and shape. There are no tables of names.
"""

import re
import types
from collections.abc import Mapping
from typing import Any

import chex
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clonalnet_jax.models.swin import relative_position_index, window_of
from clonalnet_jax.weights.mismatches import check_values, mismatch

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
# What PyTorch, its averaged models and counters of operations count: no weights.
_COUNTERS = frozenset(
    {"num_batches_tracked", "n_averaged", "total_ops", "total_params"}
)
# Swin's biases, and which of them is whose: a constant that its reference saves.
_BIASES, _INDEX = "relative_position_bias_table", "relative_position_index"


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A PyTorch state dict of arrays, which loads with `strict=True`.

    Args:
      variables: `params` and `batch_stats` of a network of `clonalnet_jax.models`.

    Returns:
      By PyTorch's names, in PyTorch's layouts; contiguous copies, which may be written.
    """
    state = {}
    for path, array in flatten_dict(dict(variables)).items():
        name = torch_name(path[1:])
        state[name] = np.array(_turn(np.asarray(array), path[-1]), order="C")
        if path[-1] == _BIASES:
            index = name.replace(_BIASES, _INDEX)
            state[index] = relative_position_index(window_of(len(array)))
        if path[-1] == "var":
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            state[counter] = np.zeros((), np.int64)
    return state


def from_torch(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    *,
    source: str,
    without: tuple[str, ...] | None = None,
    others: Mapping[str, str] = types.MappingProxyType({}),
) -> dict[str, chex.ArrayTree]:
    """Variables of ours from a PyTorch state dict; every tensor is accounted for.

    Args:
      state: Arrays by PyTorch's names.
      shapes: Shapes of the variables, as `jax.eval_shape` of the network's init gives.
      source: Name of the state dict, for the error.
      without: Path of a module whose tensors are neither needed nor read, such as a
        classifier that is replaced.
      others: The objects that the source has instead of a tensor, by tensor name.

    Returns:
      `params` and `batch_stats` as NumPy arrays; without those of `without`.

    Raises:
      UserError: Tensors are missing, unexpected or of another shape, or hold what no
        trained network can; names them all.
    """
    wanted = wanted_names(shapes, without)
    prefix = torch_name((*without, "")) if without else None
    given = {
        name: np.asarray(array)
        for name, array in state.items()
        if not is_counter(name) and not (prefix and name.startswith(prefix))
    }
    variables, misshaped = {}, {}
    for name, (path, shape) in wanted.items():
        if name not in given:
            continue
        array = _turn_back(given[name], path[-1])
        if array.shape == shape:
            variables[path] = np.ascontiguousarray(array)
        else:
            expected = _turn(np.empty(shape), path[-1]).shape
            misshaped[name] = f"{given[name].shape}, not {expected}"
    missing = {name: others.get(name, "") for name in wanted if name not in given}
    unexpected = [name for name in given if name not in wanted]
    if missing or unexpected or misshaped:
        raise mismatch(source, wanted, missing, unexpected, misshaped)
    check_values({name: given[name] for name in wanted}, source)
    return unflatten_dict(variables)


def wanted_names(
    shapes: Mapping[str, Any], without: tuple[str, ...] | None = None
) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """PyTorch's names of a network's variables.

    Args:
      shapes: Shapes of the variables, as `jax.eval_shape` of the network's init gives.
      without: Path of a module to leave out.

    Returns:
      By PyTorch's name, the variable's path in ours and its shape in ours.
    """
    return {
        torch_name(path[1:]): (path, leaf.shape)
        for path, leaf in flatten_dict(dict(shapes)).items()
        if without is None or path[1:-1] != without
    }


def is_counter(name: str) -> bool:
    """Whether a tensor of this name counts or numbers something: it is no weight."""
    return name.rpartition(".")[2] in {*_COUNTERS, _INDEX}


def torch_name(path: tuple[str, ...]) -> str:
    """PyTorch's name of a variable, given its path below `params` or `batch_stats`."""
    *modules, leaf = path
    parts = [re.sub(r"(_\d+)+$", lambda m: m[0].replace("_", "."), p) for p in modules]
    return ".".join([*parts, _LEAVES.get(leaf, leaf)])


def _turn(array: np.ndarray, leaf: str) -> np.ndarray:
    """HWIO to OIHW, [in, out] to [out, in]; other leaves as they are."""
    if leaf != "kernel":
        return array
    return array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))


def _turn_back(array: np.ndarray, leaf: str) -> np.ndarray:
    if leaf != "kernel" or array.ndim not in (2, 4):
        return array
    return array.transpose((2, 3, 1, 0) if array.ndim == 4 else (1, 0))
