"""What is confused with what: pairs, matrices, groups and classes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clonalnet_jax.analysis.confusion import (
    Confusion,
    class_gains,
    cluster_order,
    confused_groups,
    confused_pairs,
    confusing_of,
    count_confusion,
)
from clonalnet_jax.errors import csv_cell
from clonalnet_jax.report import figures
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.page import Column, Picture, Table
from clonalnet_jax.report.rendering import render
from clonalnet_jax.report.words import signed

# At most so many of each are shown.
_PAIRS, _GROUPS, _MATRIX, _BARS, _ROWS = 12, 8, 24, 30, 60


def confusion_section(evidence: Evidence, directory: Path) -> dict[str, Any]:
    """Pairs, matrices, groups and classes; `csv` has every class."""
    config, names = evidence.experiment.config, evidence.class_names
    counted = count_confusion(
        evidence.logits["baseline"],
        evidence.logits[evidence.clone],
        evidence.labels,
        temperature=config.loss.temperature,
    )
    groups = [
        (", ".join(names[k] for k in group.members), f"{100 * group.rate:.1f} %")
        for group in confused_groups(counted.baseline)[:_GROUPS]
    ]
    rows = _class_rows(counted, names)
    return {
        "summary": _summary(counted, config.loss.temperature),
        "groups": groups,
        **_pairs(counted, names, directory),
        "gains": _gains(counted, names, directory),
        "classes": Table(
            "Accuracy by class, and the categories that confuse the baseline there: "
            "the share of the class's images on which a category is in the confusing "
            "set, and how many images of it the baseline and the clone take for it"
            + (
                f". The {_ROWS} classes with most images gained or lost."
                if len(rows) > _ROWS
                else "."
            ),
            (
                Column("class"),
                Column("images"),
                Column("baseline %"),
                Column("clone %"),
                Column("gain, points", signed=True),
                Column("what confuses the baseline", number=False),
            ),
            _most_changed(counted, rows)[:_ROWS],
        ),
        "csv": _csv(rows),
    }


def _summary(counted: Confusion, temperature: float) -> str:
    images = counted.support.sum()
    wrong = [int(images - np.trace(m)) for m in (counted.baseline, counted.clone)]
    return (
        f"On an image {counted.confusing.sum() / images:.2f} categories confuse the "
        f"baseline on average, the true one among them (the loss's confusing set at "
        f"temperature {temperature:g}). It gets {wrong[0]:,} of {images:,} images "
        f"wrong, the clone {wrong[1]:,}."
    )


def _pairs(counted: Confusion, names: Sequence[str], directory: Path) -> dict[str, Any]:
    pairs = confused_pairs(counted, limit=_PAIRS)
    if not pairs:
        return {"pairs_figure": None}
    titles = [f"{names[p.first]} ↔ {names[p.second]}" for p in pairs]
    drawn = figures.draw_pairs(
        [(names[p.first], names[p.second]) for p in pairs],
        [p.baseline for p in pairs],
        [p.clone for p in pairs],
    )
    size = (4.8, 0.9 + 0.28 * len(pairs))
    return {
        "pairs_figure": Picture(
            render(drawn, directory / "pairs", size=size),
            "Images of one class taken for the other, either way, by the baseline "
            "and by the clone.",
            f"Chart of the {len(pairs)} most swapped pairs; the table below has its "
            "numbers.",
        ),
        "pairs": Table(
            "The pairs that the baseline swaps most: images of one on which the other "
            "is in the confusing set, and images that the baseline and the clone swap.",
            (
                Column("pair"),
                Column("in the set"),
                Column("baseline"),
                Column("clone"),
                Column("change"),
            ),
            [
                (name, *map(str, p[2:]), signed(p.clone - p.baseline, 0))
                for name, p in zip(titles, pairs, strict=True)
            ],
        ),
        "matrices": _matrices(counted, names, directory),
    }


def _matrices(
    counted: Confusion, names: Sequence[str], directory: Path
) -> list[Picture]:
    order = cluster_order(counted.baseline)
    which = "all classes"
    if len(order) > _MATRIX:
        wrong = counted.baseline + counted.baseline.T
        np.fill_diagonal(wrong, 0)
        worst = set(np.argsort(-wrong.sum(axis=1), kind="stable")[:_MATRIX].tolist())
        order = [k for k in order if k in worst]
        which = f"the {len(order)} classes with most errors"
    cells = np.ix_(order, order)
    matrices = {"baseline": counted.baseline[cells], "clone": counted.clone[cells]}
    wrongs = {who: m - np.diag(np.diag(m)) for who, m in matrices.items()}
    top = max(int(wrong.max()) for wrong in wrongs.values())
    return [
        Picture(
            render(
                figures.draw_matrix([names[k] for k in order], wrong, top=top),
                directory / f"matrix_{who}",
                size=(4.8, 4.0),
            ),
            f"What the {who} takes for what, of {which}: those that are confused lie "
            "next to each other, correct answers are left out.",
            f"Confusion matrix of the {who}, with {int(wrong.sum())} errors; the "
            "tables of this section have their numbers.",
        )
        for who, wrong in wrongs.items()
    ]


def _gains(counted: Confusion, names: Sequence[str], directory: Path) -> Picture:
    gains = class_gains(counted)
    order = [k for k in np.argsort(-gains, kind="stable") if not np.isnan(gains[k])]
    which = "Accuracy gained or lost on each class"
    if len(order) > _BARS:
        order = order[: _BARS // 2] + order[-_BARS // 2 :]
        which = f"The {_BARS // 2} classes that gain most and that lose most"
    drawn = figures.draw_gains([names[k] for k in order], gains[order].tolist())
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    return Picture(
        render(drawn, directory / "gains", size=(4.8, 0.7 + 0.22 * len(order))),
        f"{which}: {better} classes gain, {worse} lose.",
        f"Bar chart of the gain of each class: {better} gain, {worse} lose; the table "
        "below has the numbers.",
    )


def _class_rows(counted: Confusion, names: Sequence[str]) -> list[tuple[str, ...]]:
    gains, support = class_gains(counted), counted.support
    rows = []
    for k, name in enumerate(names):
        right = [np.diag(m)[k] for m in (counted.baseline, counted.clone)]
        shares = [f"{100 * r / support[k]:.1f}" if support[k] else "" for r in right]
        confusing = "; ".join(
            f"{names[c.category]} {100 * c.confusing:.0f} % "
            f"({round(c.baseline * support[k])} → {round(c.clone * support[k])})"
            for c in confusing_of(counted, k, limit=3)
        )
        gain = "" if np.isnan(gains[k]) else signed(gains[k], 1)
        rows.append((name, str(support[k]), *shares, gain, confusing))
    return rows


def _most_changed(
    counted: Confusion, rows: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """In the classes' order where all fit, else by the images gained or lost."""
    if len(rows) <= _ROWS:
        return rows
    change = np.abs(np.diag(counted.clone) - np.diag(counted.baseline))
    return [rows[k] for k in np.argsort(-change, kind="stable")]


def _csv(rows: list[tuple[str, ...]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("class", "images", "baseline", "clone", "gain", "confusing"))
    for name, *figures_of_it, confusing in rows:
        writer.writerow((csv_cell(name), *figures_of_it, csv_cell(confusing)))
    return buffer.getvalue()
