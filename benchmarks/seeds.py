"""Trains a config with several seeds and prints means and paired differences.

    python benchmarks/seeds.py --config=configs/cifar10_small.py --seeds=0,1,2 \
        --config.data.path=DIRECTORY --workdir=runs/cifar10_small

A seed resumes where it stopped. Every run of a seed shares its baseline, data order
and initialisation, so differences are paired by seed.
"""

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Values of config.seed.")
_WORKDIR = flags.DEFINE_string("workdir", None, "One sub-folder a seed.", required=True)


def main(argv: list[str]) -> None:
    """Trains what is missing, then prints the table."""
    del argv
    from clonalnet_jax import training

    results = []
    for seed in map(int, _SEEDS.value):
        config = copy.deepcopy(_CONFIG.value)
        config.seed = seed
        results.append(training.train(config, Path(_WORKDIR.value) / f"seed{seed}"))
    table = Table(title=f"mean ± standard error over {len(results)} seeds")
    table.add_column("run", no_wrap=True)
    for column in ("top-1 %", "- retraining", "- distillation", "nll", "ece %"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in results[0]:
        table.add_row(
            run,
            _mean([r[run]["top1"] for r in results], 2),
            _gain(results, run, "cross_entropy"),
            _gain(results, run, "distillation"),
            _mean([r[run]["nll"] for r in results], 3),
            _mean([r[run]["ece"] for r in results], 1),
        )
    Console(width=100).print(table)


def _gain(results: list[dict[str, Any]], run: str, rival: str) -> str:
    """The paired difference in top-1, over seeds."""
    if rival not in results[0] or run == rival:
        return "-"
    return _mean([r[run]["top1"] - r[rival]["top1"] for r in results], 2)


def _mean(values: list[float], digits: int) -> str:
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main)
