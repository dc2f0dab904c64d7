"""The devices: their mesh, where arrays lie on it, and programs compiled for it.

All other modules do without knowing how many devices there are.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.runtime.splitting import shard_state as shard_state

P = ParamSpec("P")
T = TypeVar("T")
AddUp = Callable[..., jax.Array]
"""See `models.wide_gradients`."""

# Number of steps that the host may be ahead of the devices: enough to keep an
# accelerator busy. With tens of steps waiting, XLA's CPU client has hung and aborted
# where several host devices meet in a collective. Every step that waits also holds its
# inputs in memory.
LEAD = 4

# Every device has examples of its own, also where several share the classes.
_EXAMPLES = ("data", "model")


def make_mesh(devices: Sequence[jax.Device] | None = None, *, model: int = 1) -> Mesh:
    """Makes a mesh with the axes `data` and `model`.

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
    # Those that share the classes exchange features and sums of their logits in every
    # step, for which links between processes are too slow.
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


def in_own_context(function: Callable[P, T]) -> Callable[P, T]:
    """Lets a function run as if its caller had not changed what JAX does.

    What it computes lies on a mesh of its own, and JAX refuses a second one, of
    `jax.set_mesh`, in the same operation. Flax and optax rely on promotions, which
    a caller may have forbidden in code of their own, and images and constants are
    moved onto devices unasked, which a guard against that would stop.

    Args:
      function: A function that is called outside of `jit`, and no generator.

    Returns:
      The function, after which all is as it was.
    """

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with contextlib.ExitStack() as context:
            context.enter_context(jax.numpy_dtype_promotion("standard"))
            context.enter_context(jax.numpy_rank_promotion("allow"))
            context.enter_context(jax.transfer_guard("allow"))
            if not jax.sharding.get_abstract_mesh().empty:
                context.enter_context(jax.set_mesh(None))
            return function(*args, **kwargs)

    return within


def platform(mesh: Mesh) -> str:
    """Returns the platform that programs for a mesh are compiled for, such as `cpu`.

    The mesh knows it, and not JAX: a program for a TPU may be compiled on a machine
    that has none, and must then have none of the options that only help a CPU.
    """
    return mesh.devices.flat[0].platform


class Layout(NamedTuple):
    """All that the program of a step must know about its devices.

    Attributes:
      shard_logits: Tells the compiler where logits `[batch, classes]` lie, and with
        them labels `[batch]` or `[batch, classes]`.
      loops_are_fast: Whether XLA runs operations inside a loop as fast as others. On a
        CPU, convolutions inside `scan` and `while` are not multithreaded and take 10
        to 30 times as long. Loops are therefore unrolled there, or stay in Python.
      gradients_in_parts: Whether weight gradients are faster when they are summed from
        parts of the batch; see `models.convolution`.
      tokens_in_eights: Whether a transformer's tokens are filled up; see `models.vit`.
      attention_in_parts: Whether queries, keys and values come of products of their
        own; see `models.attention`.
      statistics_in_one_pass: Whether batch norm reads its input once for mean and
        variance; see `models.layers`.
      add_up: The function that adds up gradients over devices that compute them in
        bfloat16, or None where they do in float32; see `models.wide_gradients`.
    """

    shard_logits: Callable[[jax.Array], jax.Array] = lambda logits: logits
    loops_are_fast: bool = False
    gradients_in_parts: bool = False
    tokens_in_eights: bool = False
    attention_in_parts: bool = False
    statistics_in_one_pass: bool = False
    add_up: AddUp | None = None


ANYWHERE = Layout()
"""The layout of a step whose devices are not known. It assumes nothing."""


def layout_of(mesh: Mesh, *, fsdp: bool = False) -> Layout:
    """Returns the layout of steps that run on a mesh.

    Args:
      mesh: The mesh of `make_mesh`.
      fsdp: Whether parameters are split over it; see `shard_state`.

    Returns:
      The layout.
    """
    return _layout_on(platform(mesh), mesh, fsdp=fsdp)


@made_once
def _layout_on(platform: str, mesh: Mesh, *, fsdp: bool) -> Layout:
    on_cpu = platform == "cpu"
    return Layout(
        shard_logits=functools.partial(_beside_logits, mesh),
        loops_are_fast=not on_cpu,
        gradients_in_parts=on_cpu and mesh.size == 1,
        # A TPU fills its tiles by itself, and took longer with more tokens.
        tokens_in_eights=platform == "gpu",
        # On a CPU its gradient takes longer.
        attention_in_parts=platform == "tpu",
        # A CPU computes more than it reads, and keeps the digits of two passes.
        statistics_in_one_pass=not on_cpu,
        # cuDNN has no weight gradient of bfloat16 in float32.
        add_up=adder(mesh, fsdp=fsdp) if platform == "gpu" else None,
    )


def _beside_logits(mesh: Mesh, x: jax.Array) -> jax.Array:
    spec = PartitionSpec(*logits_sharding(mesh).spec[: x.ndim])
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def adder(mesh: Mesh, *, fsdp: bool = False) -> AddUp:
    """Returns what adds up devices' parts of a gradient in float32.

    Args:
      mesh: The mesh of `make_mesh`.
      fsdp: Whether parameters are split over it; see `shard_state`.

    Returns:
      A function `(partial_sum, *arrays)` of arrays that are split as batches are.
    """

    def add_up(partial_sum: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
        whole = jax.eval_shape(partial_sum, *arrays)
        spec = shard_state(mesh, whole, fsdp=fsdp).sharding.spec

        def of_device(*parts: jax.Array) -> jax.Array:
            mine = partial_sum(*parts).astype(jnp.float32)
            if "data" not in spec:
                return jax.lax.psum(mine, _EXAMPLES)
            axis = spec.index("data")
            mine = jax.lax.psum_scatter(
                mine, "data", scatter_dimension=axis, tiled=True
            )
            return jax.lax.psum(mine, "model")

        split = PartitionSpec(_EXAMPLES)
        return jax.shard_map(of_device, mesh=mesh, in_specs=split, out_specs=spec)(
            *arrays
        )

    return add_up


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(_EXAMPLES))


def logits_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits `[batch, classes]` over `data` and `model`."""
    return NamedSharding(mesh, PartitionSpec("data", "model"))


def shard_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this process's share of a global batch on its devices.

    Args:
      mesh: The mesh of `make_mesh`.
      batch: Arrays `[local batch, ...]`.

    Returns:
      Global arrays `[local batch * processes, ...]`, split over all devices.
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
    """Moves a tree, of which every process holds the whole, to its shardings."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.tree.map(_place_among_processes, tree, shardings)


def _place_among_processes(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Does without `device_put`, which would first compare the processes' copies."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place_among_processes(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])


def jit_init(
    mesh: Mesh, init: Callable[..., Any], *, shardings: Any = None
) -> Callable[..., Any]:
    """Jits a function that makes a state. By default, every device has all of it."""
    return jax.jit(
        init,
        out_shardings=shardings or replicated(mesh),
        # The program runs only once. On a CPU, LLVM would take longer to optimise its
        # random numbers than to compile a training step, and change no bit of them.
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
      donate: Whether the step may write over the state that the caller gives it.

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
    """Returns options with which Eigen, on all cores, does the convolutions of a CPU.

    By default YNNPACK does them, many of them on one core. On two cores, a step with
    Eigen takes four fifths of the time (jax 0.10.2).
    """
    return _supported(
        mesh, xla_cpu_experimental_ynn_fusion_type="LIBRARY_FUSION_TYPE_REDUCE"
    )


def _supported(mesh: Mesh, **options: str) -> dict[str, str] | None:
    """Returns the options if the mesh has CPUs and XLA knows them, or else None."""
    on_cpu = platform(mesh) == "cpu"
    return options if on_cpu and _knows(mesh.local_devices[0], **options) else None


@functools.cache
def _knows(device: jax.Device, **options: str) -> bool:
    """Whether this version of XLA knows options of its compiler."""
    try:
        with jax.default_device(device):
            jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@functools.cache
def jit_gather(mesh: Mesh) -> Callable[..., Any]:
    """Jits `(arrays, batch) -> batch` with the rows `batch["index"]` of the arrays.

    The arrays are `[n, ...]`, a batch's `[b, ...]` and split over all devices.
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


def check_batch_size(
    batch_size: int, mesh: Mesh | AbstractMesh, *, parts: int = 1
) -> None:
    """Raises `UserError` unless the global batch can be split over mesh and parts."""
    rows = mesh.size * parts
    if batch_size >= 1 and batch_size % rows == 0:
        return
    near = max(rows, round(batch_size / rows) * rows)
    also = f" and {parts} parts" if parts > 1 else ""
    raise UserError(
        "config.batch_size",
        got=f"{batch_size} on {mesh.size} devices{also}",
        expected=f"a positive multiple of {rows}, the global batch of all devices",
        remedy=f"--config.batch_size={near}",
    )
