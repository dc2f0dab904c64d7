"""Where arrays live. No other module knows how many devices there are."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from clonalnet_jax.errors import UserError

T = TypeVar("T")
# Number of steps that the host may be ahead of the devices: enough to keep an
# accelerator busy. With tens of steps waiting, XLA's CPU client has hung and aborted
# where several host devices meet in a collective. Every step that waits also holds its
# inputs in memory.
LEAD = 4
# An array of fewer numbers is cheaper to keep on every device than to gather in every
# step.
_WORTH_SPLITTING = 2048


def make_mesh(devices: Sequence[jax.Device] | None = None, *, model: int = 1) -> Mesh:
    """A mesh with axes `data` and `model`.

    Args:
      devices: The devices, those of one process next to each other. By default all of
        the run's.
      model: Number of devices that the classes are split over.

    Returns:
      The mesh `[devices / model, model]`.

    Raises:
      UserError: `model` does not divide the devices of one process.
    """
    devices = jax.devices() if devices is None else devices
    # A process feeds whole rows of the mesh: its own examples, each to `model` devices.
    local = len(devices) // len({device.process_index for device in devices})
    if model < 1 or local % model:
        raise UserError(
            "config.partition.model",
            got=str(model),
            expected=f"a divisor of the {local} devices of a process",
            remedy="set --config.partition.model=1",
        )
    grid = np.asarray(devices).reshape(-1, model)
    return Mesh(grid, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def platform(mesh: Mesh) -> str:
    """The platform that programs for a mesh are compiled for, such as `cpu`.

    It is asked of the mesh and not of JAX: a program for a TPU may be compiled on a
    machine that has none, and must not carry what only helps a CPU.
    """
    return mesh.devices.flat[0].platform


class Layout(NamedTuple):
    """All that a step's program has to know of the devices it is compiled for.

    Attributes:
      shard_logits: Tells the compiler where logits `[batch, classes]` lie.
      loops_are_fast: Whether XLA runs what is inside a loop as fast as what is not. On
        a CPU, convolutions inside `scan` and `while` are not multithreaded and take 10
        to 30 times as long; there, loops are laid out or stay in Python.
      gradients_in_parts: Whether weight gradients are faster when they are summed from
        parts of the batch; see `models.convolution`.
    """

    shard_logits: Callable[[jax.Array], jax.Array] = lambda logits: logits
    loops_are_fast: bool = False
    gradients_in_parts: bool = False


ANYWHERE = Layout()
"""The layout of a step whose devices are not known: nothing is assumed of them."""


def layout_of(mesh: Mesh) -> Layout:
    """The layout of steps that run on a mesh."""
    on_cpu = platform(mesh) == "cpu"
    return Layout(
        shard_logits=functools.partial(
            jax.lax.with_sharding_constraint, shardings=logits_sharding(mesh)
        ),
        loops_are_fast=not on_cpu,
        gradients_in_parts=on_cpu and mesh.size == 1,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def logits_sharding(mesh: Mesh) -> NamedSharding:
    """`[batch, classes]` are split over `data` and `model`."""
    return NamedSharding(mesh, PartitionSpec("data", "model"))


def shard_state(
    mesh: Mesh, shapes: Any, *, fsdp: bool = False, head: Sequence[str] = ()
) -> Any:
    """Where the parts of a training state live.

    Args:
      mesh: The mesh of `make_mesh`.
      shapes: The state, or its shapes (`jax.eval_shape`).
      fsdp: Whether parameters, their average and the optimiser's are split over
        `data` (fully sharded, ZeRO stage 3); statistics and small vectors are not.
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


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's share of a global batch on its devices.

    Args:
      mesh: The mesh of `make_mesh`.
      batch: Arrays `[local batch, ...]`.

    Returns:
      Global arrays `[local batch * processes, ...]`, split over `data`.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return cast(Any, jax.device_put(batch, sharding))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def replicate(mesh: Mesh, tree: chex.ArrayTree) -> chex.ArrayTree:
    """Copies a tree that every process holds onto every device."""
    return place(tree, jax.tree.map(lambda _: replicated(mesh), tree))


def place(tree: chex.ArrayTree, shardings: Any) -> chex.ArrayTree:
    """Copies a tree that every process holds whole to where it shall live."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_place_among_processes, tree, shardings)


def _place_among_processes(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """`device_put` would first compare the processes' copies, byte by byte."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place_among_processes(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])


def jit_init(
    mesh: Mesh, init: Callable[..., Any], *, shardings: Any = None
) -> Callable[..., Any]:
    """Jits a function that makes a state; by default the same on every device."""
    return jax.jit(
        init,
        out_shardings=shardings or replicated(mesh),
        # It runs once. On a CPU, optimising its random numbers takes LLVM longer than
        # compiling a training step, and changes no bit of them.
        compiler_options=_supported(mesh, xla_backend_optimization_level="1"),
    )


def jit_train_step(
    mesh: Mesh,
    step: Callable[..., Any],
    *,
    state_shardings: Any = None,
    donate: bool = True,
) -> Callable[..., Any]:
    """Jits `(state, baseline_variables, batch, key) -> (state, metrics)`.

    Args:
      mesh: The mesh of `make_mesh`.
      step: A step of `steps.make_train_step`, or of `steps.make_many_steps`, whose
        batches are a sequence.
      state_shardings: Shardings of the state's parts; None copies it to every device.
      donate: Whether the caller's state is gone after the call.

    Returns:
      The jitted step.
    """
    whole, split = replicated(mesh), batch_sharding(mesh)
    of_state = state_shardings or whole
    return jax.jit(
        step,
        donate_argnums=0 if donate else (),
        in_shardings=(of_state, whole, split, whole),
        out_shardings=(of_state, whole),
        compiler_options=_convolutions_on_all_cores(mesh),
    )


def jit_eval_step(mesh: Mesh, step: Callable[..., Any]) -> Callable[..., Any]:
    """Jits `(variables, batch) -> sums`; variables may live anywhere on the mesh."""
    whole, split = replicated(mesh), batch_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(None, split),
        out_shardings=whole,
        compiler_options=_convolutions_on_all_cores(mesh),
    )


def _convolutions_on_all_cores(mesh: Mesh) -> dict[str, str] | None:
    """Options that give convolutions on a CPU to Eigen, which uses all cores.

    By default XLA gives them to YNNPACK, which runs many of them on one core. On two
    cores, a step with Eigen's takes four fifths of the time (jax 0.10.2).
    """
    return _supported(
        mesh, xla_cpu_experimental_ynn_fusion_type="LIBRARY_FUSION_TYPE_REDUCE"
    )


@functools.cache
def _supported(mesh: Mesh, **options: str) -> dict[str, str] | None:
    """These options if the mesh is of CPUs and XLA knows them; else None."""
    if platform(mesh) != "cpu":
        return None
    try:
        with jax.default_device(mesh.local_devices[0]):
            jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None  # This XLA does not know them, and does without.
    return options


@functools.cache
def jit_gather(mesh: Mesh) -> Callable[..., Any]:
    """Jits `(arrays, batch) -> batch` with the rows `batch["index"]` of the arrays.

    The arrays are `[n, ...]`, a batch's `[b, ...]` and split over `data`.
    """
    whole, split = replicated(mesh), batch_sharding(mesh)

    def gather(
        arrays: dict[str, jax.Array], batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        rows = {
            name: jnp.take(array, batch["index"], axis=0, mode="clip")
            for name, array in arrays.items()
        }
        return {**rows, **batch}

    return jax.jit(gather, in_shardings=(whole, split), out_shardings=split)


def keep_up(outputs: Iterable[T]) -> Iterator[T]:
    """Lets the host run only `LEAD` programs ahead of the devices.

    Args:
      outputs: Outputs of programs; drawing one dispatches its program.

    Yields:
      The outputs, in order.
    """
    unfinished: collections.deque[T] = collections.deque()
    for output in outputs:
        unfinished.append(output)
        if len(unfinished) > LEAD:
            jax.block_until_ready(unfinished.popleft())
        yield output


def check_batch_size(batch_size: int, mesh: Mesh, *, parts: int = 1) -> None:
    """Raises `UserError` unless the global batch can be split over mesh and parts."""
    rows = mesh.shape["data"] * parts
    if batch_size >= 1 and batch_size % rows == 0:
        return
    near = max(rows, round(batch_size / rows) * rows)
    also = f" and {parts} parts" if parts > 1 else ""
    raise UserError(
        "config.batch_size",
        got=f"{batch_size} on {mesh.shape['data']} devices{also}",
        expected=f"a positive multiple of {rows}, the global batch of all devices",
        remedy=f"--config.batch_size={near}",
    )
