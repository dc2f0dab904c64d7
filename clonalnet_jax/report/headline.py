"""The answer that comes first: does the clone win, and how sure is that."""

from pathlib import Path
from typing import Any

import numpy as np

from clonalnet_jax.analysis.significance import mcnemar
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.page import Column, Headline, Table, Tile
from clonalnet_jax.report.seeds import several_seeds
from clonalnet_jax.report.words import signed
from clonalnet_jax.workdir.directory import read_comparison, read_results

_RIVALS = {"cross_entropy": "plain retraining", "distillation": "distillation"}
_ONE_SEED = (
    "One seed is one seed: McNemar's test says how far chance among these test images "
    "reaches, and nothing of what another initialisation or data order would change. "
    "--mode=compare trains several seeds."
)


def make_headline(evidence: Evidence, directory: Path) -> Headline:
    """Says what was found, and "no difference shown" where that is so.

    Args:
      evidence: The evidence of the report.
      directory: Directory of the figures.

    Returns:
      The headline.
    """
    compared = read_comparison(evidence.workdir)
    if compared is not None and evidence.clone in compared["methods"]:
        return several_seeds(compared, evidence.clone, directory)
    results = read_results(evidence.experiment.workdir)
    return Headline(*_one_seed(evidence), [_ONE_SEED], [_runs(results)], None)


def _one_seed(evidence: Evidence) -> tuple[str, list[Tile]]:
    before, after = evidence.right("baseline"), evidence.right(evidence.clone)
    mended, broken, p = mcnemar(after, before)
    images = len(before)
    gain = 100 * (after.mean() - before.mean())
    net = abs(mended - broken)
    what = f"classifies as many of {images:,} test images correctly as its baseline"
    if net:
        more = f"{net:,} {'more' if gain > 0 else 'fewer'} of {images:,} test images"
        what = f"classifies {more} correctly than its baseline"
    changed = f"it mends {mended:,} and breaks {broken:,}"
    verdict = f"On this one seed, the {evidence.clone} {what}: {changed}. " + (
        "That is more than chance among the test images explains."
        if p < 0.05
        else "No difference shown: chance among the test images explains as much."
    )
    verdict += _beside_rivals(evidence, after)
    tiles = [
        Tile("Baseline", f"{100 * before.mean():.2f} %", "top-1 on the test split"),
        Tile("Clone", f"{100 * after.mean():.2f} %", "top-1 on the test split"),
        Tile("Difference", signed(gain, 2), "percentage points, one seed"),
        Tile("McNemar's p", f"{p:.2g}", f"exact, {mended + broken:,} images differ"),
    ]
    return verdict, tiles


def _beside_rivals(evidence: Evidence, after: np.ndarray) -> str:
    """What this seed says of the clone against plain retraining and distillation."""
    parts = []
    for run, name in _RIVALS.items():
        if run in evidence.logits and run != evidence.clone:
            before = evidence.right(run)
            gain, p = 100 * (after.mean() - before.mean()), mcnemar(after, before).p
            shown = "" if p < 0.05 else ", no difference shown"
            parts.append(f"{signed(gain, 2)} points against {name}{shown}")
    return f" It is at {'; '.join(parts)}." if parts else ""


def _runs(results: dict[str, dict[str, Any]]) -> Table:
    def seconds(row: dict[str, Any]) -> str:
        return f"{row['train_seconds']:,.0f}" if row.get("train_seconds") else ""

    return Table(
        "Every run of this workdir on the test split.",
        tuple(
            map(
                Column,
                ("run", "top-1 %", "top-5 %", "nll", "ece %", "parameters", "train, s"),
            )
        ),
        [
            (
                run,
                f"{row['top1']:.2f}",
                f"{row['top5']:.2f}",
                f"{row['nll']:.4f}",
                f"{row['ece']:.2f}",
                f"{row['num_parameters']:,}",
                seconds(row),
            )
            for run, row in results.items()
        ],
    )
