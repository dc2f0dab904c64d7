"""What the page opens with and ends on: its title, training, how to reproduce it."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clonalnet_jax.report import figures
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.page import Column, Picture, Table
from clonalnet_jax.report.rendering import render
from clonalnet_jax.workdir.directory import read_config, read_starts
from clonalnet_jax.workdir.files import flatten
from clonalnet_jax.workdir.records import read_records


def title(evidence: Evidence) -> str:
    """What the report is about."""
    config = evidence.experiment.config
    path = config.data.path
    name = config.data.name or (Path(path).name if path else "images")
    return f"{name}: {evidence.clone} against baseline"


def subtitle(evidence: Evidence) -> str:
    """Networks and data in one line."""
    config, dataset = evidence.experiment.config, evidence.experiment.dataset
    return (
        f"Baseline {config.baseline.model}, clone {config.clone.model}; "
        f"{len(dataset.train):,} training and {len(dataset.test):,} test images of "
        f"{dataset.num_classes:,} classes."
    )


def training_section(evidence: Evidence, directory: Path) -> list[Picture]:
    """Curves from `metrics.jsonl`; none where that is missing."""
    records = read_records(
        evidence.experiment.workdir, warn=evidence.experiment.journal.warn
    )
    pictures = []
    split = evidence.experiment.curve_split
    scores = _curves(records, split, "top1", evidence.drawn)
    where = f"on the {split} split"
    if all(len(steps) < 2 for steps, _ in scores.values()):
        # A run that is evaluated only at its end has no curve there.
        scores = _curves(records, "train", "top1", evidence.drawn)
        where = "on the training batches"
    if scores:
        pictures.append(
            Picture(
                render(
                    figures.draw_curves(scores, evidence.clone, "top-1 %"),
                    directory / "training_top1",
                ),
                f"Top-1 accuracy {where} while training.",
                f"Line chart of top-1 accuracy {where} by step; {_ends(scores, ' %')}.",
            )
        )
    terms = {
        term: curve[evidence.clone]
        for term in ("loss", "classification", "attention", "negentropy")
        if (curve := _curves(records, "train", term, [evidence.clone]))
    }
    if terms:
        pictures.append(
            Picture(
                render(
                    figures.draw_curves(terms, "loss", "mean over the batch"),
                    directory / "training_loss",
                ),
                f"The loss of the run {evidence.clone} and its terms.",
                f"Line chart of the loss by step; {_ends(terms, '')}.",
            )
        )
    return pictures


def reproduce_section(evidence: Evidence) -> dict[str, Any]:
    """Commands, versions, device, revision and config."""
    directory = evidence.experiment.workdir
    starts = read_starts(directory)
    last = starts[-1] if starts else {}
    facts = {
        "seed": evidence.experiment.config.seed,
        "git revision": last.get("git_revision"),
        "device": f"{last.get('num_devices')} x {last.get('device')}",
        "processes": last.get("num_processes"),
        "Python": last.get("python"),
        "clonalnet_jax": last.get("clonalnet_jax"),
        **last.get("packages", {}),
    }
    commands = dict.fromkeys(
        f"python {shlex.join(map(str, start.get('command', [])))}" for start in starts
    )
    saved = read_config(directory)
    return {
        "commands": list(commands),
        "environment": Table(
            "What the figures depend on besides the config.",
            (Column("what"), Column("value", number=False)),
            [(key, str(value)) for key, value in facts.items()],
        ),
        "config": Table(
            "The resolved config.",
            (Column("key"), Column("value", number=False)),
            [(key, json.dumps(value)) for key, value in flatten(saved).items()],
        ),
    }


def _curves(
    records: list[dict[str, Any]], split: str, name: str, runs: Iterable[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values by run, of the runs that have any."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        found = [
            r for r in records if r["run"] == run and r["split"] == split and name in r
        ]
        if found:
            curves[run] = [r["step"] for r in found], [r[name] for r in found]
    return curves


def _ends(curves: Mapping[str, tuple[list[float], list[float]]], unit: str) -> str:
    last = (f"{name} {values[-1]:.2f}{unit}" for name, (_, values) in curves.items())
    return "at the end " + ", ".join(last)
