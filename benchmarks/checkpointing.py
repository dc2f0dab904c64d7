"""What saving checkpoints costs, in percent of the time of the steps.

    python benchmarks/checkpointing.py --model=resnet20 --steps=60 --every=20

Runs training steps on random images and saves every so often, as training does. Counts
the time in which the host waits for the save (the copy of the state, and what was left
of the save before), and compares the steps that run while a save is being written with
those that do not.
"""

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import make_sharded, random_batch
from benchmarks.measuring import run_benchmark
from clonalnet_jax.runtime import partition
from clonalnet_jax.workdir.checkpoints import Checkpoints, Meta

_MODEL = flags.DEFINE_string("model", "resnet20", "A name of clonalnet_jax.models.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images a step.")
_STEPS = flags.DEFINE_integer("steps", 60, "How many.")
_EVERY = flags.DEFINE_integer("every", 20, "Steps between two saves.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_CLASSES = 10


def main(argv: list[str]) -> None:
    """Measures and prints one line."""
    del argv
    sharded = make_sharded(_MODEL.value, 1, _CLASSES)
    images = random_batch(_BATCH.value, sharded.shape, _CLASSES)
    arguments = (
        sharded.baseline,
        partition.shard_batch(sharded.mesh, images),
        sharded.key,
    )
    names = [str(n) for n in range(_CLASSES)]
    meta = Meta(_MODEL.value, {}, names, list(sharded.shape), "benchmark")
    state, metrics = sharded.step(sharded.state, *arguments)
    jax.block_until_ready(metrics)
    waited, times = 0.0, []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as kept:
        for number in range(1, _STEPS.value + 1):
            start = time.perf_counter()
            state, metrics = sharded.step(state, *arguments)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - start)
            if number % _EVERY.value == 0:
                start = time.perf_counter()
                kept.save(state, dataclasses.replace(meta, step=number), {"top1": 0.0})
                waited += time.perf_counter() - start
    beside = [
        t for n, t in enumerate(times) if n >= _EVERY.value and n % _EVERY.value < 2
    ]
    median = float(np.median(times))
    print(
        f"{_MODEL.value} on {jax.devices()[0].device_kind}: {_STEPS.value} steps of "
        f"{1e3 * median:.0f} ms, a save every {_EVERY.value}; waiting for saves "
        f"{100 * waited / sum(times):.2f} % of the steps' time; the two steps beside a "
        f"save {100 * (np.median(beside) / median - 1):+.1f} %"
    )
    if _OUTPUT.value:
        result = {
            "device": jax.devices()[0].device_kind,
            "step_seconds": median,
            "beside_a_save_seconds": float(np.median(beside)),
            "waited_seconds": waited,
            "all_steps_seconds": sum(times),
        }
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    run_benchmark(main)
