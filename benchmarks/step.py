"""A training step: plain, of a clone, from cached answers, and the same in PyTorch.

    python benchmarks/step.py --models=resnet20 --batch_size=128
    python benchmarks/step.py --models=resnet18_small --batch_size=64

Contenders: `plain` is cross-entropy alone, `clone` also runs the frozen baseline (the
same network, batch norm folded) in the same program, `cached` reads the baseline's
answers with the batch instead. `torch plain` and `torch clone` do it in PyTorch, eager,
in float32, as the authors' loop does; `torch tuned` is the clone with channels last
and, on a GPU, bfloat16 and torch.compile. They start from the same weights, and the
first losses must agree. The data lie on the device, the contenders take turns, and
times are medians after compilation. The roofline is the time that the program's
operations and bytes (XLA's count, caches left out) take at the speed that a matrix
product and a copy have here.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import footprint, speeds, take_turns
from clonalnet_jax import answers, partition, steps
from clonalnet_jax.data import make_prepare
from clonalnet_jax.methods import make_method
from clonalnet_jax.models import create_model, native_size
from clonalnet_jax.partition import loops_are_fast
from clonalnet_jax.quiet import quieten
from clonalnet_jax.weights import fold_batch_norm
from configs import default

_MODELS = flags.DEFINE_list("models", ["resnet20"], "Names of clonalnet_jax.models.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a step.", 1)
_SIZE = flags.DEFINE_integer("image_size", None, "Of a side; None: the network's own.")
_CLASSES = flags.DEFINE_integer("classes", None, "None: 10 at 32 pixels, else 1,000.")
_DTYPE = flags.DEFINE_string("compute_dtype", None, "None: bfloat16 but on CPU.")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "At least, for a contender.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Between two looks; None: 1 on CPU, or 20."
)
_TORCH = flags.DEFINE_bool("torch", True, "Measure PyTorch, too.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_RATE, _MOMENTUM, _TOP_K = 0.01, 0.9, 16
# Contenders whose time is divided, and by whose.
_RATIOS = (
    ("clone", "plain", 1.20),
    ("cached", "plain", 1.03),
    ("torch plain", "plain", None),
    ("torch clone", "clone", 2.0),
    ("torch tuned", "clone", 1.1),
)


def main(argv: list[str]) -> None:
    """Measures and prints a table for each network."""
    del argv
    results = [_measure(name) for name in _MODELS.value]
    for result in results:
        _show(result)
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(results, indent=2))


def _measure(name: str) -> dict[str, Any]:
    size = _SIZE.value or native_size(name)
    classes = _CLASSES.value or (10 if size == 32 else 1000)
    on_cpu = not loops_are_fast()
    dtype = _DTYPE.value or ("float32" if on_cpu else "bfloat16")
    count = _STEPS.value or (1 if on_cpu else 20)
    model = create_model(name, classes, dtype=dtype)
    shape = (size, size, 3)
    optimizer = optax.sgd(_RATE, momentum=_MOMENTUM)
    init = jax.jit(partial(steps.init_state, model, optimizer, image_shape=shape))
    baseline = init(jax.random.key(1)).variables
    forward, folded = fold_batch_norm(model, baseline, shape)
    batch = _batch(shape, classes)
    packed = jax.jit(
        lambda variables, batch: answers.encode(
            forward(variables, _prepare(batch, None)[0]),
            batch["label"],
            temperature=2.0,
            top_k=_TOP_K,
        )
    )(folded, batch)
    unpack = partial(answers.decode, num_classes=classes, top_k=_TOP_K)
    programs, calls, losses = {}, {}, {}
    for contender, method, options, variables, extra in (
        ("plain", "cross_entropy", {}, {}, {}),
        ("clone", "clone", {"baseline": forward}, folded, {}),
        ("cached", "clone", {"unpack": unpack}, {}, {"answers": packed}),
    ):
        loss_fn = make_method(method, default.get_config()).loss_fn
        mesh = partition.make_mesh(jax.devices()[:1])
        step = steps.make_train_step(
            model,
            optimizer,
            loss_fn,
            _prepare,
            gradients_in_parts=partition.gradients_in_parts(mesh),
            **options,
        )
        state = init(jax.random.key(0))
        arguments = (variables, {**batch, **extra}, jax.random.key(2))
        jitted = partition.jit_train_step(mesh, step)
        program = jitted.lower(state, *arguments).compile()
        calls[contender], losses[contender] = _take(program, state, arguments, count)
        programs[contender] = program
    if _TORCH.value:
        start = init(jax.random.key(0)).variables
        theirs = _torch_calls(name, classes, start, baseline, batch, count)
        for contender, (call, loss) in theirs.items():
            calls[contender], losses[contender] = call, loss
    _check_same_work(losses, exact=dtype == "float32")
    seconds = take_turns(calls, seconds=_SECONDS.value)
    rows = {
        contender: {
            "seconds": taken / count,
            "images_per_second": _BATCH.value * count / taken,
            **(footprint(programs[contender]) if contender in programs else {}),
        }
        for contender, taken in seconds.items()
    }
    return {
        "model": name,
        "image_size": size,
        "batch_size": _BATCH.value,
        "compute_dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)) if on_cpu else None,
        **speeds(dtype),
        "first_losses": losses,
        "rows": rows,
    }


_prepare = make_prepare(mean=(0.5,), std=(0.25,))


def _batch(shape: tuple[int, int, int], classes: int) -> dict[str, jax.Array]:
    rng, size = np.random.default_rng(0), _BATCH.value
    batch = {
        "image": rng.integers(256, size=(size, *shape), dtype=np.uint8),
        "label": rng.integers(classes, size=size, dtype=np.int32),
        "index": np.arange(size, dtype=np.int32),
        "epoch": np.zeros(size, np.int32),
    }
    return jax.tree.map(jnp.asarray, batch)


def _take(
    program: jax.stages.Compiled, state: Any, arguments: Any, count: int
) -> tuple[Callable[[], None], float]:
    """Goes on from step to step; and the loss of the first."""
    state, metrics = program(state, *arguments)
    holder = [state]

    def call() -> None:
        for _ in range(count):
            holder[0], metrics = program(holder[0], *arguments)
        jax.block_until_ready((holder[0], metrics))

    return call, float(metrics["loss"])


def _torch_calls(
    name: str, classes: int, start: Any, baseline: Any, batch: Any, count: int
) -> dict[str, tuple[Callable[[], None], float]]:
    import torch

    from benchmarks import torch_training

    images = torch_training.normalised(np.asarray(batch["image"]))
    labels = torch.from_numpy(np.asarray(batch["label"], np.int64)).to(images.device)
    make = partial(torch_training.make_network, name, classes)
    calls = {}
    for contender, teacher, tuned in (
        ("torch plain", None, False),
        ("torch clone", baseline, False),
        ("torch tuned", baseline, True),
    ):
        network = make(start)
        optimizer = torch.optim.SGD(network.parameters(), _RATE, _MOMENTUM)
        frozen = None if teacher is None else make(teacher)
        step = torch_training.make_step(network, frozen, optimizer, tuned=tuned)

        def call(step: Callable[..., Any] = step) -> None:
            for _ in range(count):
                step(images, labels)
            torch_training.wait()

        calls[contender] = (call, float(step(images, labels)))
    return calls


def _check_same_work(losses: dict[str, float], *, exact: bool) -> None:
    for group in (("plain", "torch plain"), ("clone", "cached", "torch clone")):
        found = [losses[name] for name in group if name in losses]
        if not np.allclose(found, found[0], rtol=1e-3 if exact else 5e-2):
            raise RuntimeError(f"the contenders do not do the same work: {losses}")


def _show(result: dict[str, Any]) -> None:
    console = Console(width=110)
    table = Table(
        title=f"{result['model']}, {result['batch_size']} images of "
        f"{result['image_size']} pixels, {result['compute_dtype']}, {result['device']}"
    )
    table.add_column("step")
    for column in (
        "ms",
        "images/s",
        "operations, G",
        "moved, MiB",
        "needed, MiB",
        "bound by",
        "of the roofline",
    ):
        table.add_column(column, justify="right")
    for name, row in result["rows"].items():
        cells = [f"{1e3 * row['seconds']:.1f}", f"{row['images_per_second']:,.0f}"]
        if "flops" in row:
            times = {
                "operations": row["flops"] / result["flops_per_second"],
                "bytes": row["bytes"] / result["bytes_per_second"],
            }
            bound = max(times, key=lambda key: times[key])
            cells += [
                f"{row['flops'] / 1e9:.2f}",
                f"{row['bytes'] / 2**20:,.0f}",
                f"{row['peak_bytes'] / 2**20:,.0f}",
                bound,
                f"{100 * times[bound] / row['seconds']:.0f} %",
            ]
        table.add_row(name, *cells)
    console.print(table)
    rows = result["rows"]
    for one, other, target in _RATIOS:
        if one in rows:
            ratio = rows[one]["seconds"] / rows[other]["seconds"]
            aim = f" (on a GPU: {target:.2f})" if target else ""
            console.print(f"time of {one} / {other}: {ratio:.2f}{aim}")
    peaks = [rows[name]["peak_bytes"] for name in ("clone", "plain")]
    console.print(f"memory of clone / plain: {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    quieten()
    app.run(main)
