"""What more devices cost: differences of the loss, bytes that travel, the host's time.

    python benchmarks/scaling.py --model=resnet8 --devices=1,2,4,8

Runs the clone's training step on host devices: 10 steps on the same global batch for
the losses, and the same number of images a device for the time of a step as the host
sees it (weak scaling; the devices are threads of one machine, so that only the host's
part says anything). The bytes are those of the collectives in the compiled program,
against the least that any data-parallel step must send: every gradient once. With
--accelerators it takes the machine's own devices.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import Sharded, make_sharded, random_batch
from benchmarks.measuring import run_benchmark, use_host_devices
from clonalnet_jax.models import count_parameters
from clonalnet_jax.planning.hlo import communication
from clonalnet_jax.runtime import partition

_MODEL = flags.DEFINE_string("model", "resnet8", "A name of clonalnet_jax.models.")
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "Numbers of devices.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Global, of the losses.")
_LOCAL = flags.DEFINE_integer("images_per_device", 8, "Of the times.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps that are compared and timed.")
_ACCELERATORS = flags.DEFINE_bool("accelerators", False, "The machine's own devices.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_CLASSES = 10


def main(argv: list[str]) -> None:
    """Measures and prints the table."""
    del argv
    counts = [int(count) for count in _DEVICES.value]
    rows = [_measure(count) for count in counts]
    table = Table(title=f"{_MODEL.value}, clone's step, {jax.devices()[0].device_kind}")
    for column in (
        "devices",
        f"loss after {_STEPS.value} steps",
        "largest difference",
        "sent, KiB",
        "least, KiB",
        f"ms a step, {_LOCAL.value} images each",
        "host, ms",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        losses, reference = np.asarray(row["losses"]), np.asarray(rows[0]["losses"])
        difference = np.max(np.abs(losses - reference) / reference)
        table.add_row(
            str(row["devices"]),
            f"{losses[-1]:.6f}",
            f"{difference:.1e}",
            f"{sum(row['sent'].values()) / 1024:,.0f} {'+'.join(row['sent'])}",
            f"{row['least'] / 1024:,.0f}",
            f"{1e3 * row['step_seconds']:.1f}",
            f"{1e3 * row['dispatch_seconds']:.2f}",
        )
    Console(width=130).print(table)
    if _OUTPUT.value:
        device = jax.devices()[0].device_kind
        result = {"device": device, "model": _MODEL.value, "rows": rows}
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _measure(num_devices: int) -> dict[str, Any]:
    sharded = make_sharded(_MODEL.value, num_devices, _CLASSES)
    step, baseline, key = sharded.step, sharded.baseline, sharded.key
    state, losses = sharded.state, []
    for number in range(_STEPS.value):
        batch = _batch(sharded, _BATCH.value, number)
        state, metrics = step(state, baseline, batch, key)
        losses.append(float(metrics["loss"]))

    batch = _batch(sharded, _LOCAL.value * num_devices, 0)
    sent = communication(step.lower(state, baseline, batch, key).compile())
    state, metrics = step(state, baseline, batch, key)
    jax.block_until_ready(metrics)
    times, dispatches = [], []
    for _ in range(_STEPS.value):
        start = time.perf_counter()
        state, metrics = step(state, baseline, batch, key)
        dispatches.append(time.perf_counter() - start)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - start)
    return {
        "devices": num_devices,
        "losses": losses,
        "sent": sent,
        "least": 4 * count_parameters(state.params) if num_devices > 1 else 0,
        "step_seconds": statistics.median(times),
        "dispatch_seconds": statistics.median(dispatches),
    }


def _batch(sharded: Sharded, size: int, seed: int) -> dict[str, jax.Array]:
    batch = random_batch(size, sharded.shape, _CLASSES, seed)
    return partition.shard_batch(sharded.mesh, batch)


def _start(argv: list[str]) -> None:
    if not _ACCELERATORS.value:
        use_host_devices(max(map(int, _DEVICES.value)))
    main(argv)


if __name__ == "__main__":
    run_benchmark(_start)
