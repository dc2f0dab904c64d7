"""The focusing-picking loss and its gradient: time, memory and bytes against the least.

    python benchmarks/loss.py

For each size and dtype of the logits: the mean loss and its gradient by our closed form
(`focusing_picking_loss`), by JAX's differentiation of the definition
(`focusing_picking_definition`), and by the same formula in PyTorch, eager and compiled
(not with --notorch). The floor is the time to read both logits and to write the
gradient once, at the speed that a copy of an array of the gradient's size has here. The
contenders take turns; times are medians. Sizes are written BATCHxCLASSES. On an
accelerator the start of a program takes longer than a small loss, so a program works
through several pairs of logits there, as one would through several batches; PyTorch
works through them in a loop and waits at its end.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import footprint, run_benchmark, take_turns
from clonalnet_jax.losses import focusing_picking_definition, focusing_picking_loss

_SIZES = flags.DEFINE_list(
    "sizes",
    ["256x10", "1024x100", "256x1000", "4096x1000", "1024x21841", "512x131072"],
    "Batches and classes.",
)
_DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "Of the logits.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "At least, for a contender at a size.")
_TORCH = flags.DEFINE_bool("torch", True, "Measure PyTorch, too.")
_COMPILE = flags.DEFINE_bool("torch_compile", True, "Its compiler, too; needs g++.")
_PAIRS = flags.DEFINE_integer(
    "pairs", None, "Of logits that a call works through; None: 1 on CPU, or up to 16."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
# The most bytes that the pairs take together.
_MOST = 4 * 2**30
_OURS, _PLAIN, _EAGER, _COMPILED = "ours", "autodiff", "torch eager", "torch compile"


def main(argv: list[str]) -> None:
    """Measures and prints the table."""
    del argv
    device = jax.devices()[0].device_kind
    rows: list[dict[str, Any]] = []
    for size in _SIZES.value:
        for dtype in _DTYPES.value:
            rows += _measure(*map(int, size.split("x")), dtype)
            if _OUTPUT.value:
                result = {"device": device, "rows": rows}
                Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))
    table = Table(title=f"focusing-picking loss and gradient, {device}")
    for column in ("logits", "dtype", "by", "ms", "of the floor", "temporary, MiB"):
        table.add_column(column, justify="right")
    table.add_column("bytes of the least", justify="right")
    for row in rows:
        memory, moved = row["temporary_bytes"], row["bytes"]
        table.add_row(
            row["size"] if row["by"] == _OURS else "",
            row["dtype"] if row["by"] == _OURS else "",
            row["by"],
            f"{1e3 * row['seconds']:.3f}",
            f"{row['seconds'] / row['floor_seconds']:.1f}",
            "" if memory is None else f"{memory / 2**20:.2f}",
            "" if moved is None else f"{moved / row['least_bytes']:.1f}",
        )
    Console(width=100).print(table)


def _measure(batch: int, classes: int, dtype: str) -> list[dict[str, Any]]:
    size = batch * classes * jnp.dtype(dtype).itemsize
    on_cpu = jax.devices()[0].platform == "cpu"
    pairs = _PAIRS.value or (1 if on_cpu else max(1, min(16, _MOST // (3 * size))))
    # Each pair is of other numbers, or XLA would compute one of them only.
    given = [
        _pair(jax.random.key(pair), batch, classes, dtype) for pair in range(pairs)
    ]
    gradients = {
        name: jax.value_and_grad(lambda *x, f=loss: jnp.mean(f(*x)))
        for name, loss in (
            (_OURS, focusing_picking_loss),
            (_PLAIN, focusing_picking_definition),
        )
    }
    programs: dict[str, dict[str, Any]] = {
        name: _costs(jax.jit(gradient).lower(*given[0]).compile())
        for name, gradient in gradients.items()
    }

    def run(function: Callable[..., Any], arguments: Any) -> Callable[[], Any]:
        program = jax.jit(lambda each: [function(*x) for x in each])
        compiled = program.lower(arguments).compile()
        return lambda: jax.block_until_ready(compiled(arguments))

    calls = {name: run(gradient, given) for name, gradient in gradients.items()}
    calls["copy"] = run(
        lambda x: x + jnp.ones((), x.dtype), [(clone,) for clone, _, _ in given]
    )
    if _TORCH.value:
        calls |= _torch_calls(given)
    _check_alike(calls)
    seconds = {
        name: taken / pairs
        for name, taken in take_turns(calls, seconds=_SECONDS.value).items()
    }
    # A copy reads and writes once; the loss reads twice and writes once.
    floor = 1.5 * seconds.pop("copy")
    unknown = {"temporary_bytes": None, "bytes": None}
    return [
        {
            "size": f"{batch}x{classes}",
            "dtype": dtype,
            "by": name,
            "pairs": pairs,
            "seconds": time_taken,
            "floor_seconds": floor,
            "least_bytes": 3 * size,
            **programs.get(name, unknown),
        }
        for name, time_taken in seconds.items()
    ]


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _pair(
    key: jax.Array, batch: int, classes: int, dtype: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of a clone and of a baseline, and labels."""
    ours, theirs, labels = jax.random.split(key, 3)
    return (
        (3 * jax.random.normal(ours, (batch, classes))).astype(dtype),
        (3 * jax.random.normal(theirs, (batch, classes))).astype(dtype),
        jax.random.randint(labels, (batch,), 0, classes),
    )


def _costs(program: jax.stages.Compiled) -> dict[str, Any]:
    return {
        "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
        "bytes": footprint(program)["bytes"],
    }


def _check_alike(calls: dict[str, Callable[[], Any]]) -> None:
    """Nobody is measured on other work; the first call compiles, too."""
    values = {name: call() for name, call in calls.items() if name != "copy"}
    losses = {
        name: [float(np.asarray(loss)) for loss, _ in pairs]
        for name, pairs in values.items()
    }
    if not np.allclose(list(losses.values()), [losses[_OURS]], rtol=2e-2):
        raise RuntimeError(f"the contenders do not compute the same loss: {losses}")


def _torch_calls(given: list[Any]) -> dict[str, Callable[[], Any]]:
    """The same on PyTorch's own device: an accelerator where it sees one."""
    import torch

    from benchmarks import torch_training

    # Both see the same device; the copies are PyTorch's own.
    pairs = [[torch.from_dlpack(x).clone() for x in pair] for pair in given]
    pairs = [
        (clone.requires_grad_(), baseline, labels.long())
        for clone, baseline, labels in pairs
    ]

    def run(function: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> Any:
            values = []
            for clone, baseline, target in pairs:
                value = function(clone, baseline, target)
                (gradient,) = torch.autograd.grad(value, clone)
                values.append((value.detach(), gradient))
            torch_training.wait()
            return [(value.cpu(), gradient) for value, gradient in values]

        return call

    calls = {_EAGER: run(torch_training.clone_loss)}
    if _COMPILE.value:
        torch._dynamo.reset()
        compiled = torch.compile(torch_training.clone_loss, dynamic=False)
        calls[_COMPILED] = run(compiled)
    return calls


if __name__ == "__main__":
    run_benchmark(main)
