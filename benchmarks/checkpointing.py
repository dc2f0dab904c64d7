"""What saving checkpoints costs, in percent of the time of the steps.

    python benchmarks/checkpointing.py --model=resnet20 --steps=60 --every=20

Runs training steps on random images and saves every so often, as training does. Counts
the time in which the host waits for the save (the copy of the state, and what was left
of the save before), and compares the steps that run while a save is being written with
those that do not.
"""

import dataclasses
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from absl import app, flags

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax import partition, steps
from clonalnet_jax.checkpoints import Checkpoints, Meta
from clonalnet_jax.data import make_prepare
from clonalnet_jax.methods import make_method
from clonalnet_jax.models import create_model, native_size
from clonalnet_jax.quiet import quieten
from configs import default

_MODEL = flags.DEFINE_string("model", "resnet20", "A name of clonalnet_jax.models.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images a step.")
_STEPS = flags.DEFINE_integer("steps", 60, "How many.")
_EVERY = flags.DEFINE_integer("every", 20, "Steps between two saves.")
_CLASSES = 10


def main(argv: list[str]) -> None:
    """Measures and prints one line."""
    del argv
    mesh, size = partition.make_mesh(), native_size(_MODEL.value)
    model, optimizer = create_model(_MODEL.value, _CLASSES), optax.sgd(0.01, 0.9)
    loss_fn = make_method("cross_entropy", default.get_config()).loss_fn
    prepare = make_prepare(mean=(0.5,), std=(0.25,))
    train_step = steps.make_train_step(
        model,
        optimizer,
        loss_fn,
        prepare,
        gradients_in_parts=partition.gradients_in_parts(mesh),
    )
    step = partition.jit_train_step(mesh, train_step)
    shape = (size, size, 3)
    init = partial(steps.init_state, model, optimizer, image_shape=shape)
    state = partition.jit_init(mesh, init)(jax.random.key(0))
    key = partition.replicate(mesh, jax.random.key(1))
    rng, count = np.random.default_rng(0), _BATCH.value
    batch = partition.shard_batch(
        mesh,
        {
            "image": rng.integers(256, size=(count, *shape), dtype=np.uint8),
            "label": rng.integers(_CLASSES, size=count, dtype=np.int32),
            "index": np.arange(count, dtype=np.int32),
            "epoch": np.zeros(count, np.int32),
        },
    )
    names = [str(n) for n in range(_CLASSES)]
    meta = Meta(_MODEL.value, {}, names, list(shape), "benchmark")
    state, metrics = step(state, {}, batch, key)
    jax.block_until_ready(metrics)
    waited, times = 0.0, []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as kept:
        for number in range(1, _STEPS.value + 1):
            start = time.perf_counter()
            state, metrics = step(state, {}, batch, key)
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


if __name__ == "__main__":
    quieten()
    app.run(main)
