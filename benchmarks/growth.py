"""How the time of a clone's step grows with batch, classes and devices, as a figure.

    python benchmarks/growth.py --figure=docs/growth.svg

One of the three is varied at a time, around --batch_size images of --classes classes on
one device; the devices are threads of this machine's cores (or, with --accelerators,
its own devices), each with --batch_size images.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import optax
from absl import app, flags
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import take_turns
from clonalnet_jax import partition, steps
from clonalnet_jax.data import make_prepare
from clonalnet_jax.methods import make_method
from clonalnet_jax.models import create_model, native_size
from clonalnet_jax.quiet import quieten
from configs import default

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
    mesh = partition.make_mesh(jax.devices()[:devices])
    size = native_size(_MODEL.value)
    shape = (size, size, 3)
    model, optimizer = create_model(_MODEL.value, classes), optax.sgd(0.01, 0.9)
    train_step = steps.make_train_step(
        model,
        optimizer,
        make_method("clone", default.get_config()).loss_fn,
        make_prepare(mean=(0.5,), std=(0.25,)),
        baseline=partial(steps.predict, model),
        gradients_in_parts=partition.gradients_in_parts(mesh),
    )
    init = partial(steps.init_state, model, optimizer, image_shape=shape)
    jit_init = partition.jit_init(mesh, init)
    baseline = jit_init(jax.random.key(1)).variables
    key = partition.replicate(mesh, jax.random.key(2))
    rng, count = np.random.default_rng(0), batch * devices
    images = {
        "image": rng.integers(256, size=(count, *shape), dtype=np.uint8),
        "label": rng.integers(classes, size=count, dtype=np.int32),
        "index": np.arange(count, dtype=np.int32),
        "epoch": np.zeros(count, np.int32),
    }
    examples = partition.shard_batch(mesh, images)
    step = partition.jit_train_step(mesh, train_step)
    holder = [jit_init(jax.random.key(0))]

    def call() -> None:
        holder[0], metrics = step(holder[0], baseline, examples, key)
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
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", max(map(int, _DEVICES.value)))
    main(argv)


if __name__ == "__main__":
    quieten()
    app.run(_start)
