"""What the clone's gain over plain retraining depends on: one figure.

    python benchmarks/sensitivity.py --config=configs/digits.py --seeds=10 \
        --vary=loss.temperature=0.5,1,2,4,8 --vary=loss.attention_weight=0,0.5,1,2 \
        --vary=baseline.options.width=4,8,16 --workdir=runs/sensitivity

Trains, for every seed, the baseline, plain retraining and the clone with the config as
it is, then the clone with one key changed at a time: of `config.loss`, beside the same
baseline, or of `config.baseline`, beside a baseline of its own. Everything else, the
initialisation and the order of the images among it, stays. Prints the gain in top-1
with its 95 % interval over seeds, and how many categories confuse the baseline on a
training image (the true one among them). Writes sensitivity.json and the figure; a
second call resumes.
"""

import ast
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib.axes import Axes
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.analysis.confusion import confusing_categories
from clonalnet_jax.analysis.significance import FEWEST_SEEDS, paired_difference
from clonalnet_jax.command import start
from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.report.rendering import Drawing, Theme, render
from clonalnet_jax.trained.network import load_network
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.training.experiment import open_experiment
from clonalnet_jax.training.story import train
from clonalnet_jax.workdir.directory import read_results
from clonalnet_jax.workdir.files import flatten, write_atomically

_WORKDIR = flags.DEFINE_string("workdir", "runs/sensitivity", "Of runs and results.")
_SEEDS = flags.DEFINE_integer(
    "seeds", 5, "How many: config.seed, and on.", FEWEST_SEEDS
)
_VARY = flags.DEFINE_multi_string("vary", [], "A key and its values, k=v,v,v.")
_GROUPS = ("loss.", "baseline.")


def main(config: ConfigDict, arguments: list[str]) -> int:
    """Trains what is missing, prints the table and writes the figure."""
    del arguments
    workdir = Path(_WORKDIR.value)
    points = [
        point for text in _VARY.value for point in _parse(config, text)
    ]  # refuses what is mistyped before anything is trained
    seeds = range(config.seed, config.seed + _SEEDS.value)
    rows = [_measure(config, workdir, seeds, {})]
    for key, value in points:
        row = rows[0]
        if value != flatten(config.to_dict()).get(key):
            row = _measure(config, workdir, seeds, {key: value})
        rows.append({**row, "key": key, "value": value})
    write_atomically(workdir / "sensitivity.json", json.dumps(rows, indent=2))
    render(_draw(rows[1:]), workdir / "sensitivity", size=(7.2, 3.4))
    _print(rows, len(seeds))
    return 0


def _parse(config: ConfigDict, text: str) -> list[tuple[str, Any]]:
    """`key=value,value` to pairs; refuses a key that would move more than the clone."""
    key, _, values = text.partition("=")
    known = [name for name in flatten(config.to_dict()) if name.startswith(_GROUPS)]
    if key not in known and not key.startswith("baseline.options."):
        raise unknown_name("--vary", key, known)
    try:
        return [(key, ast.literal_eval(value)) for value in values.split(",")]
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"--vary {key}",
            got=repr(values),
            expected="numbers between commas",
            remedy=f"write --vary={key}=1,2,4",
        ) from error


def _measure(
    config: ConfigDict, workdir: Path, seeds: Sequence[int], change: Mapping[str, Any]
) -> dict[str, Any]:
    """The clone of one setting against plain retraining, over seeds."""
    name = "_".join(f"{key}={value}" for key, value in change.items()) or "centre"
    own_baseline = any(key.startswith("baseline.") for key in change)
    baselines, retrained, clones, sizes = [], [], [], []
    for seed in seeds:
        centre = workdir / "centre" / f"seed{seed}"
        of_seed = copy.deepcopy(config)
        of_seed.seed = seed
        of_seed.methods = ("clone",) if change else ("cross_entropy", "clone")
        with of_seed.unlocked():
            of_seed.update_from_flattened_dict(change)
        if change and not own_baseline:
            of_seed.baseline.checkpoint = str(centre / "baseline")
        directory = workdir / name / f"seed{seed}"
        results = train(of_seed, directory)
        baselines.append(results["baseline"]["top1"])
        clones.append(results["clone"]["top1"])
        retrained.append(read_results(centre)["cross_entropy"]["top1"])
        sizes.append(_set_size(of_seed, directory))
    return {
        "key": None,
        "value": None,
        "baseline_top1": float(np.mean(baselines)),
        "clone_top1": float(np.mean(clones)),
        "gain": paired_difference(clones, retrained)._asdict(),
        "confusing_on_training_images": float(np.mean(sizes)),
    }


def _set_size(config: ConfigDict, workdir: Path) -> float:
    """Mean size of the confusing set of a training image, as it is stored."""
    experiment = open_experiment(config, workdir)
    checkpoint = config.baseline.checkpoint or workdir / "baseline"
    network = load_network(Path(checkpoint), experiment.mesh)
    predictor = experiment.make_predictor(network.model)
    logits, labels = predictor(network.variables, experiment.dataset.train)
    chosen = confusing_categories(logits, labels, temperature=config.loss.temperature)
    return float(chosen.sum(-1).mean())


def _print(rows: Sequence[Mapping[str, Any]], num_seeds: int) -> None:
    table = Table(title=f"Clone minus plain retraining, top-1, {num_seeds} seeds")
    for column in (
        "setting",
        "baseline",
        "confusing",
        "clone",
        "gain",
        "95 % interval",
    ):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for row in rows:
        gain = row["gain"]
        table.add_row(
            f"{row['key']} = {row['value']}" if row["key"] else "as configured",
            f"{row['baseline_top1']:.2f}",
            f"{row['confusing_on_training_images']:.2f}",
            f"{row['clone_top1']:.2f}",
            f"{gain['mean']:+.2f}",
            f"{gain['low']:+.2f} to {gain['high']:+.2f}",
        )
    Console(width=100).print(table)


def _draw(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """The gain by key and value, all on one scale."""
    keys = list(dict.fromkeys(row["key"] for row in rows))

    def draw(axes: Axes, theme: Theme) -> None:
        axes.axhline(0, color=theme.text, linewidth=0.8)
        ticks, start = [], 0
        for number, key in enumerate(keys):
            chosen = [row for row in rows if row["key"] == key]
            places = np.arange(start, start + len(chosen))
            means = np.array([row["gain"]["mean"] for row in chosen])
            lows = np.array([row["gain"]["low"] for row in chosen])
            colour = (theme.clone, theme.baseline, *theme.others)[number % 7]
            axes.errorbar(
                places, means, yerr=means - lows, color=colour, marker="o", capsize=3
            )
            axes.annotate(
                key.replace(".", ".\n", 1),
                (float(places.mean()), 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                color=colour,
                fontsize=9,
            )
            ticks += [
                (place, row["value"]) for place, row in zip(places, chosen, strict=True)
            ]
            start += len(chosen) + 1
        axes.set_xticks([place for place, _ in ticks], [f"{v}" for _, v in ticks])
        axes.set(ylabel="gain over plain retraining, top-1")
        axes.grid(visible=False, axis="x")

    ends = ("mean", "low", "high")
    return Drawing(
        draw,
        ("key", "value", "gain in top-1", "low end of its interval", "high end"),
        [
            (row["key"], str(row["value"]), *(row["gain"][end] for end in ends))
            for row in rows
        ],
    )


if __name__ == "__main__":
    start(main, check=check_config)
