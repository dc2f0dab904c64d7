"""Where arrays live: the only room that knows how many devices there are."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clonalnet_jax.errors import UserError

T = TypeVar("T")
# How many steps the host may be ahead of the devices: enough to keep an accelerator
# busy. With tens of them waiting, XLA's CPU client has hung and aborted where several
# host devices meet in a collective; and what waits holds its inputs in memory.
LEAD = 4


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axis `data` over the given devices, by default all of the run's."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's share of a global batch on its devices.

    Args:
      mesh: from `make_mesh`.
      batch: arrays `[local batch, ...]`.

    Returns:
      Global arrays `[local batch * processes, ...]`, split over `data`.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def replicate(mesh: Mesh, tree: chex.ArrayTree) -> chex.ArrayTree:
    """Copies a tree that every process holds onto every device."""
    return jax.device_put(tree, replicated(mesh))


def jit_init(mesh: Mesh, init: Callable[..., Any]) -> Callable[..., Any]:
    """Jits a function that makes a state: replicated, the same on every device."""
    return jax.jit(init, out_shardings=replicated(mesh))


def jit_train_step(mesh: Mesh, step: Callable[..., Any]) -> Callable[..., Any]:
    """Jits `(state, baseline_variables, batch, key) -> (state, metrics)`.

    The state is donated: the caller's copy is gone after the call.
    """
    whole, split = replicated(mesh), batch_sharding(mesh)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(whole, whole, split, whole),
        out_shardings=(whole, whole),
    )


def jit_eval_step(mesh: Mesh, step: Callable[..., Any]) -> Callable[..., Any]:
    """Jits `(variables, batch) -> sums`."""
    whole, split = replicated(mesh), batch_sharding(mesh)
    return jax.jit(step, in_shardings=(whole, split), out_shardings=whole)


@functools.cache
def jit_gather(mesh: Mesh) -> Callable[..., Any]:
    """Jits `(arrays [n, ...], index [b]) -> arrays [b, ...]`, split over `data`."""
    whole, split = replicated(mesh), batch_sharding(mesh)

    def gather(arrays: chex.ArrayTree, index: jax.Array) -> chex.ArrayTree:
        return jax.tree.map(lambda x: jnp.take(x, index, axis=0, mode="clip"), arrays)

    return jax.jit(gather, in_shardings=(whole, split), out_shardings=split)


def keep_up(outputs: Iterable[T]) -> Iterator[T]:
    """Lets the host run only `LEAD` programs ahead of the devices.

    Args:
      outputs: of programs that are dispatched as they are drawn.

    Yields:
      The outputs, in order.
    """
    unfinished: collections.deque[T] = collections.deque()
    for output in outputs:
        unfinished.append(output)
        if len(unfinished) > LEAD:
            jax.block_until_ready(unfinished.popleft())
        yield output


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises `UserError` unless the global batch can be split over the mesh."""
    devices = mesh.size
    if batch_size >= 1 and batch_size % devices == 0:
        return
    near = max(devices, round(batch_size / devices) * devices)
    raise UserError(
        "config.batch_size",
        got=f"{batch_size} on {devices} devices",
        expected=f"a positive multiple of {devices}, the global batch of all devices",
        remedy=f"--config.batch_size={near}",
    )
