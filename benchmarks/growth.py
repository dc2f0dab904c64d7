"""How the time of a clone's step grows with batch, classes and devices, as a figure.

    python benchmarks/growth.py --figure=docs/growth.svg

One of the three is varied at a time, around --batch_size images of --classes classes on
one device; the devices are threads of this machine's cores (or, with --accelerators,
its own devices), each with --batch_size images.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
from absl import flags
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import make_sharded, random_batch
from benchmarks.measuring import run_benchmark, take_turns, use_host_devices
from clonalnet_jax.runtime import partition

_MODEL = flags.DEFINE_string("model", "resnet8", "A name of clonalnet_jax.models.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Of each device, unless it is varied.")
_CLASSES = flags.DEFINE_integer("classes", 100, "Unless they are varied.")
_BATCHES = flags.DEFINE_list("batches", ["16", "32", "64", "128", "256"], "To try.")
_MANY = flags.DEFINE_list("many_classes", ["10", "100", "1000", "21841"], "To try.")
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "To try.")
_SECONDS = flags.DEFINE_float("seconds", 3.0, "At least, for each.")
_ACCELERATORS = flags.DEFINE_bool("accelerators", False, "The machine's own devices.")
_FIGURE = flags.DEFINE_string("figure", None, "SVG file to write.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(argv: list[str]) -> None:
    """Measures, prints and draws."""
    del argv
    around = {"batch": _BATCH.value, "classes": _CLASSES.value, "devices": 1}
    varied = {
        "batch": list(map(int, _BATCHES.value)),
        "classes": list(map(int, _MANY.value)),
        "devices": list(map(int, _DEVICES.value)),
    }
    result: dict[str, Any] = {
        "model": _MODEL.value,
        "device": jax.devices()[0].device_kind,
        "around": around,
    }
    for name, values in varied.items():
        result[name] = [
            {"value": value, "seconds": _step_seconds(**{**around, name: value})}
            for value in values
        ]
        for point in result[name]:
            print(f"{name} {point['value']:,}: {1e3 * point['seconds']:.1f} ms a step")
    if _FIGURE.value:
        _draw(result, list(varied), Path(_FIGURE.value))
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _step_seconds(*, batch: int, classes: int, devices: int) -> float:
    sharded = make_sharded(_MODEL.value, devices, classes)
    images = random_batch(batch * devices, sharded.shape, classes)
    examples = partition.shard_batch(sharded.mesh, images)
    holder = [sharded.state]

    def call() -> None:
        holder[0], metrics = sharded.step(
            holder[0], sharded.baseline, examples, sharded.key
        )
        jax.block_until_ready(metrics)

    call()
    return take_turns({"step": call}, seconds=_SECONDS.value)["step"]


def _draw(result: dict[str, Any], names: list[str], path: Path) -> None:
    # The same bytes for the same figures.
    with mpl.rc_context({"svg.hashsalt": "growth", "font.size": 9}):
        figure = Figure(figsize=(8.0, 2.8), layout="constrained")
        around = result["around"]
        for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
            values = [point["value"] for point in result[name]]
            times = [1e3 * point["seconds"] for point in result[name]]
            axes.plot(values, times, marker="o", color="#1f77b4")
            axes.set_xscale("log")
            axes.set_ylim(0, 1.1 * max(times))
            axes.set_xticks(values, [f"{value:,}" for value in values])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            label = {"batch": "images a device"}.get(name, name)
            axes.set_xlabel(label)
        figure.axes[0].set_ylabel("ms a step")
        figure.suptitle(
            f"{result['model']}, clone's step, {result['device']}; otherwise "
            f"{around['batch']} images a device, {around['classes']} classes, 1 device"
        )
        figure.savefig(path, metadata={"Date": None})


def _start(argv: list[str]) -> None:
    if not _ACCELERATORS.value:
        use_host_devices(max(map(int, _DEVICES.value)))
    main(argv)


if __name__ == "__main__":
    run_benchmark(_start)
