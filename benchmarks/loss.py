"""The focusing-picking loss and its gradient: time, memory and bytes against the least.

    python benchmarks/loss.py

For each size and dtype of the logits: the mean loss and its gradient by our closed form
(`focusing_picking_loss`), by JAX's differentiation of the definition
(`focusing_picking_definition`), and by the same formula in PyTorch, eager and compiled
(not with --notorch). The floor is the time to read both logits and to write the
gradient once, at the speed that a copy of an array of the gradient's size has here. The
contenders take turns; times are medians. Sizes are written BATCHxCLASSES.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import take_turns
from clonalnet_jax.losses import focusing_picking_definition, focusing_picking_loss
from clonalnet_jax.runtime.quiet import quieten

_SIZES = flags.DEFINE_list(
    "sizes",
    ["256x10", "1024x100", "256x1000", "4096x1000", "1024x21841", "512x131072"],
    "Batches and classes.",
)
_DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "Of the logits.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "At least, for a contender at a size.")
_TORCH = flags.DEFINE_bool("torch", True, "Measure PyTorch, too.")
_COMPILE = flags.DEFINE_bool("torch_compile", True, "Its compiler, too; needs g++.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_OURS, _PLAIN, _EAGER, _COMPILED = "ours", "autodiff", "torch eager", "torch compile"


def main(argv: list[str]) -> None:
    """Measures and prints the table."""
    del argv
    device = jax.devices()[0].device_kind
    rows = [
        row
        for size in _SIZES.value
        for dtype in _DTYPES.value
        for row in _measure(*map(int, size.split("x")), dtype)
    ]
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
    if _OUTPUT.value:
        result = {"device": device, "rows": rows}
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _measure(batch: int, classes: int, dtype: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    logits = [
        3 * rng.standard_normal((batch, classes), dtype=np.float32) for _ in range(2)
    ]
    labels = rng.integers(classes, size=batch)
    clone, baseline = (jnp.asarray(x, dtype) for x in logits)
    arguments = (clone, baseline, jnp.asarray(labels, jnp.int32))
    compiled = {
        name: jax.jit(jax.value_and_grad(lambda *x, f=loss: jnp.mean(f(*x))))
        .lower(*arguments)
        .compile()
        for name, loss in (
            (_OURS, focusing_picking_loss),
            (_PLAIN, focusing_picking_definition),
        )
    }
    copy = jax.jit(lambda x: x + jnp.ones((), x.dtype)).lower(clone).compile()

    def run(program: jax.stages.Compiled, *x: jax.Array) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(program(*x))

    calls = {name: run(program, *arguments) for name, program in compiled.items()}
    calls["copy"] = run(copy, clone)
    if _TORCH.value:
        calls |= _torch_calls(logits, labels, dtype)
    _check_alike(calls)
    seconds = take_turns(calls, seconds=_SECONDS.value)
    # A copy reads and writes once; the loss reads twice and writes once.
    floor = 1.5 * seconds.pop("copy")
    programs: dict[str, dict[str, Any]] = {
        name: {
            "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
            "bytes": program.cost_analysis()["bytes accessed"],
        }
        for name, program in compiled.items()
    }
    unknown = {"temporary_bytes": None, "bytes": None}
    return [
        {
            "size": f"{batch}x{classes}",
            "dtype": dtype,
            "by": name,
            "seconds": time_taken,
            "floor_seconds": floor,
            "least_bytes": 3 * clone.nbytes,
            **programs.get(name, unknown),
        }
        for name, time_taken in seconds.items()
    ]


def _check_alike(calls: dict[str, Callable[[], Any]]) -> None:
    """Nobody is measured on other work; the first call compiles, too."""
    values = {name: call() for name, call in calls.items() if name != "copy"}
    losses = {name: float(np.asarray(value[0])) for name, value in values.items()}
    if not np.allclose(list(losses.values()), losses[_OURS], rtol=2e-2):
        raise RuntimeError(f"the contenders do not compute the same loss: {losses}")


def _torch_calls(
    logits: list[np.ndarray], labels: np.ndarray, dtype: str
) -> dict[str, Callable[[], Any]]:
    """The same on PyTorch's own device: an accelerator where it sees one."""
    import torch

    from benchmarks import torch_training

    clone, baseline = (
        torch.from_numpy(x).to(torch_training.DEVICE, getattr(torch, dtype))
        for x in logits
    )
    target = torch.from_numpy(labels).to(torch_training.DEVICE)
    clone.requires_grad_()

    def run(function: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> Any:
            value = function(clone, baseline, target)
            (gradient,) = torch.autograd.grad(value, clone)
            torch_training.wait()
            return value.detach().cpu(), gradient

        return call

    calls = {_EAGER: run(torch_training.clone_loss)}
    if _COMPILE.value:
        torch._dynamo.reset()
        compiled = torch.compile(torch_training.clone_loss, dynamic=False)
        calls[_COMPILED] = run(compiled)
    return calls


if __name__ == "__main__":
    quieten()
    app.run(main)
