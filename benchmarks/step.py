"""A training step: plain, of a clone, from cached answers, and the same in PyTorch.

    python benchmarks/step.py --models=resnet20 --batch_size=128
    python benchmarks/step.py --models=resnet18_small --batch_size=64

Contenders: `plain` is cross-entropy alone, `clone` also runs the frozen baseline (the
same network, batch norm folded) in the same program, `cached` reads the baseline's
answers with the batch instead. On a CPU `untuned` is `plain` as `jax.jit` compiles it
unasked, without what `partition` and `models.convolution` do there; elsewhere `clone
together` is the steps between two looks in one program (`config.steps_per_call`), of
which XLA counts one. `torch plain` and
`torch clone` do it in PyTorch, eager, in float32, as the authors' loop does; `torch
tuned` is the clone with channels last and, on a GPU, bfloat16 and torch.compile. They
start from the same weights, and the first losses must agree. The data lie on the
device, the contenders take turns, and times are medians after compilation. The roofline
is the time that the program's operations and bytes (XLA's count, caches left out) take
at the speed that a matrix product and a copy have here.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import MOMENTUM, RATE, Contender, Setting, make_setting
from benchmarks.measuring import footprint, run_benchmark, speeds, take_turns
from clonalnet_jax.runtime.cores import usable_cores
from clonalnet_jax.runtime.partition import layout_of, make_mesh

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
_WITHOUT = flags.DEFINE_list(
    "without", [], "Contenders to leave out, such as 'clone together'."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
# Contenders whose time is divided, and by whose.
_RATIOS = (
    ("clone", "plain", 1.20),
    ("cached", "plain", 1.03),
    ("untuned", "plain", None),
    ("clone together", "clone", None),
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
    on_cpu = not layout_of(make_mesh()).loops_are_fast
    dtype = _DTYPE.value or ("float32" if on_cpu else "bfloat16")
    count = _STEPS.value or (1 if on_cpu else 20)
    setting = make_setting(
        name,
        batch_size=_BATCH.value,
        size=_SIZE.value,
        classes=_CLASSES.value,
        dtype=dtype,
        together=count,
    )
    ours = {
        contender: make()
        for contender, make in setting.contenders.items()
        if contender not in _WITHOUT.value
    }
    repeated = {contender: step.repeat(count) for contender, step in ours.items()}
    if _TORCH.value:
        repeated |= _torch_calls(name, setting, count)
    calls = {contender: call for contender, (call, _) in repeated.items()}
    losses = {contender: loss for contender, (_, loss) in repeated.items()}
    _check_same_work(losses, exact=dtype == "float32")
    seconds = take_turns(calls, seconds=_SECONDS.value)
    rows = {
        contender: {
            "seconds": taken / count,
            "images_per_second": _BATCH.value * count / taken,
            **(_costs(ours[contender]) if contender in ours else {}),
        }
        for contender, taken in seconds.items()
    }
    return {
        "model": name,
        "image_size": setting.size,
        "batch_size": _BATCH.value,
        "compute_dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "cores": usable_cores() if on_cpu else None,
        **speeds(dtype),
        "first_losses": losses,
        "rows": rows,
    }


def _costs(contender: Contender) -> dict[str, Any]:
    return {**footprint(contender.program), "flops": contender.flops}


def _torch_calls(
    name: str, setting: Setting, count: int
) -> dict[str, tuple[Callable[[], None], float]]:
    import torch

    from benchmarks import torch_training

    batch = jax.device_get(setting.batch)
    images = torch_training.normalised(batch["image"])
    labels = torch.from_numpy(batch["label"].astype(np.int64)).to(images.device)
    make = partial(torch_training.make_network, name, setting.classes)
    calls = {}
    for contender, teacher, tuned in (
        ("torch plain", None, False),
        ("torch clone", setting.baseline, False),
        ("torch tuned", setting.baseline, True),
    ):
        if contender in _WITHOUT.value:
            continue
        network = make(setting.start)
        optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM)
        frozen = None if teacher is None else make(teacher)
        step = torch_training.make_step(network, frozen, optimizer, tuned=tuned)

        def call(step: Callable[..., Any] = step) -> None:
            for _ in range(count):
                step(images, labels)
            torch_training.wait()

        calls[contender] = (call, float(step(images, labels)))
    return calls


def _check_same_work(losses: dict[str, float], *, exact: bool) -> None:
    for group in (
        ("plain", "untuned", "torch plain"),
        ("clone", "cached", "clone together", "torch clone"),
    ):
        found = [losses[name] for name in group if name in losses]
        if found and not np.allclose(found, found[0], rtol=1e-3 if exact else 5e-2):
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
        if "peak_bytes" in row and not (row["flops"] and row["bytes"]):
            cells += ["", "", f"{row['peak_bytes'] / 2**20:,.0f}"]
        elif "peak_bytes" in row:
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
        if {one, other} <= set(rows):
            ratio = rows[one]["seconds"] / rows[other]["seconds"]
            aim = f" (on a GPU: {target:.2f})" if target else ""
            console.print(f"time of {one} / {other}: {ratio:.2f}{aim}")
    if {"clone", "plain"} <= set(rows):
        peaks = [rows[name]["peak_bytes"] for name in ("clone", "plain")]
        console.print(f"memory of clone / plain: {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    run_benchmark(main)
