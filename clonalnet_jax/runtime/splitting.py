"""The rules by which a training state is split over the devices of a mesh."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# An array of fewer numbers is cheaper to keep on every device than to gather in every
# step.
_WORTH_SPLITTING = 2048


def shard_state(
    mesh: Mesh, shapes: Any, *, fsdp: bool = False, head: Sequence[str] = ()
) -> Any:
    """Decides where the parts of a training state live.

    Args:
      mesh: The mesh of `partition.make_mesh`.
      shapes: The state, or its shapes (`jax.eval_shape`).
      fsdp: Whether parameters, their average and the optimiser's state are split over
        `data` (fully sharded, ZeRO stage 3). Statistics and small vectors are not.
      head: Path of the classifier, which is split over `model`: by class, or by feature
        where the number of classes cannot be divided.

    Returns:
      The shapes as `jax.ShapeDtypeStruct`, each with its sharding.
    """

    def place(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        names = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
        spec: list[str | None] = [None] * leaf.ndim
        if head and _contains(names, head):
            _split(spec, leaf.shape, "model", mesh, order=range(leaf.ndim)[::-1])
        if fsdp and "batch_stats" not in names and leaf.size >= _WORTH_SPLITTING:
            by_size = sorted(range(leaf.ndim), key=lambda axis: -leaf.shape[axis])
            _split(spec, leaf.shape, "data", mesh, order=by_size)
        while spec and spec[-1] is None:
            spec.pop()
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(place, shapes)


def _split(
    spec: list[str | None],
    shape: Sequence[int],
    axis_name: str,
    mesh: Mesh,
    *,
    order: Iterable[int],
) -> None:
    """Splits one dimension over a mesh axis: the first that is free and divides."""
    count = mesh.shape[axis_name]
    free = (axis for axis in order if spec[axis] is None and shape[axis] % count == 0)
    axis = next(free, None)
    if axis is not None and count > 1:
        spec[axis] = axis_name


def _contains(names: Sequence[str], part: Sequence[str]) -> bool:
    size = len(part)
    return any(
        tuple(names[i : i + size]) == tuple(part) for i in range(len(names) - size + 1)
    )
