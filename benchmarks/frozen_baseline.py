"""What folding and bfloat16 do to a frozen baseline: logits, answers, speed.

    python benchmarks/frozen_baseline.py --config=configs/cifar10_small.py \
        --config.data.path=DIRECTORY --workdir=runs/cifar10_small/seed0

    python benchmarks/frozen_baseline.py --config=configs/cifar10.py \
        --config.data.source=folder --config.data.path=DIRECTORY \
        --config.data.mean="(0.485,0.456,0.406)" \
        --config.data.std="(0.229,0.224,0.225)" --config.baseline.model=resnet20 \
        --config.baseline.options.padded_shortcuts=True \
        --config.baseline.weights=resnet20-12fca82f.th --workdir=runs/resnet20

The weights are those of akamaster/pytorch_resnet_cifar10.

Measures the baseline that config.baseline names, or else a workdir's, on the test
split: the largest difference of a logit over the largest logit, the shares of images
with the same arg-max and with the same confusing categories, and images per second
(median of 5 passes, compilation left out), each against the baseline as it was trained.
"""

import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.command import start
from clonalnet_jax.losses import confusing_categories
from clonalnet_jax.models import eval_logits
from clonalnet_jax.trained.network import load_network
from clonalnet_jax.training.baseline import given_baseline
from clonalnet_jax.training.experiment import Experiment, open_experiment
from clonalnet_jax.training.teacher import Frozen, freeze

_WORKDIR = flags.DEFINE_string("workdir", None, "That holds a baseline.", required=True)
_BATCH = 250


def main(config: ConfigDict, arguments: list[str]) -> int:
    """Measures and prints the table."""
    del arguments
    experiment = open_experiment(config, Path(_WORKDIR.value))
    network = given_baseline(experiment) or load_network(
        experiment.workdir / "baseline", experiment.mesh
    )
    plain = Frozen(partial(eval_logits, network.model), network.variables)
    expected, speed = _run(experiment, plain)
    table = Table(title=f"{network.meta.model} on {len(expected):,} test images")
    for column in (
        "baseline",
        "logit difference",
        "same arg-max",
        "same confusing set",
        "top-1 %",
        "images/s",
    ):
        table.add_column(column, justify="left" if column == "baseline" else "right")
    labels = experiment.dataset.test.labels()[: len(expected)]
    top1 = 100 * np.mean(expected.argmax(-1) == labels)
    table.add_row("as trained, float32", "-", "-", "-", f"{top1:.2f}", f"{speed:,.0f}")
    for fold, dtype in ((True, "float32"), (False, "bfloat16"), (True, "bfloat16")):
        experiment.config.baseline.fold_batch_norm = fold
        experiment.config.baseline.compute_dtype = dtype
        logits, speed = _run(experiment, freeze(experiment, network))
        difference = np.abs(logits - expected).max() / np.abs(expected).max()
        same = np.mean(logits.argmax(-1) == expected.argmax(-1))
        alike = np.mean((_confusing(logits) == _confusing(expected)).all(-1))
        name = f"{'folded, ' if fold else ''}{dtype}"
        top1 = 100 * np.mean(logits.argmax(-1) == labels)
        cells = (f"{difference:.1e}", f"{100 * same:.2f} %", f"{100 * alike:.2f} %")
        table.add_row(name, *cells, f"{top1:.2f}", f"{speed:,.0f}")
    Console().print(table)
    print(f"device: {jax.devices()[0].device_kind}")
    return 0


def _confusing(logits: np.ndarray) -> np.ndarray:
    return np.asarray(confusing_categories(jnp.asarray(logits)))


def _run(experiment: Experiment, frozen: Frozen) -> tuple[np.ndarray, float]:
    """Logits of the test split, float32, and images per second."""
    prepare = experiment.make_preprocess()
    test = experiment.dataset.test
    size = len(test) // _BATCH * _BATCH
    images = np.stack([test[index].image for index in range(size)])
    labels = jnp.zeros(_BATCH, jnp.int32)  # not looked at

    @jax.jit
    def step(variables, batch):
        inputs, _ = prepare({"image": batch, "label": labels}, None)
        logits = frozen.forward(variables, inputs)
        return logits.astype(jnp.float32)

    batches = [
        jnp.asarray(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)
    ]
    step(frozen.variables, batches[0]).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        outputs = jax.block_until_ready([step(frozen.variables, b) for b in batches])
        seconds.append(time.perf_counter() - start)
    return np.concatenate(outputs), len(images) / statistics.median(seconds)


if __name__ == "__main__":
    start(main)
