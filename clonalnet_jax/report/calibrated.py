"""How far confidence can be trusted: reliability, temperature, risk and coverage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clonalnet_jax.reliability import Reliability, reliability, risk_coverage
from clonalnet_jax.report import figures
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.html import Column, Picture, Table
from clonalnet_jax.report.rendering import render

FitTemperature = Callable[[np.ndarray, np.ndarray], float]
"""`(logits, labels) -> temperature`."""


def calibration_section(
    evidence: Evidence, directory: Path, fit_temperature: FitTemperature | None
) -> dict[str, Any]:
    """Reliability before and after a temperature, and risk by coverage, of each run.

    Args:
      evidence: what is known.
      directory: of the figures.
      fit_temperature: fits a temperature to logits and labels; None leaves out what
        needs one.

    Returns:
      What the page shows.
    """
    labels, clone, logits = evidence.labels, evidence.clone, evidence.logits
    plain = {run: reliability(x, labels) for run, x in logits.items()}
    diagrams = {"Baseline": plain["baseline"], "Clone": plain[clone]}
    columns = {"ece %": {run: f"{d.ece:.2f}" for run, d in plain.items()}}
    after = {}
    if fit_temperature is not None:
        scaled = {run: scale(x, labels, fit_temperature) for run, x in logits.items()}
        after = {run: reliability(x, labels) for run, (x, _) in scaled.items()}
        diagrams["Clone after temperature scaling"] = after[clone]
        columns["temperature"] = {
            run: " and ".join(f"{t:.2f}" for t in ts) for run, (_, ts) in scaled.items()
        }
        columns["ece % after"] = {run: f"{d.ece:.2f}" for run, d in after.items()}
    risks = {run: risk_coverage(x, labels) for run, x in logits.items()}
    columns["aurc %"] = {run: f"{100 * r.aurc:.3f}" for run, r in risks.items()}
    return {
        "summary": _summary(plain, after, clone),
        "diagrams": [_diagram(*item, directory) for item in diagrams.items()],
        "table": Table(
            "Expected calibration error over 15 bins of confidence and area under the "
            "risk-coverage curve; lower is better.",
            (Column("run"), *map(Column, columns)),
            [(run, *(column[run] for column in columns.values())) for run in logits],
        ),
        "risk": Picture(
            render(
                figures.draw_risk_coverage(risks, clone), directory / "risk_coverage"
            ),
            "Wrong answers among the images that a network is most sure of, by how "
            "many of them it answers.",
            "Line chart of error by share of images answered; with all answered "
            + ", ".join(f"{run} {100 * c.risk[-1]:.1f} %" for run, c in risks.items())
            + ".",
        ),
    }


def scale(
    logits: np.ndarray, labels: np.ndarray, fit_temperature: FitTemperature
) -> tuple[np.ndarray, tuple[float, float]]:
    """Divides each half of the logits by a temperature that the other half gave.

    Args:
      logits: `[n, classes]`.
      labels: class indices `[n]`.
      fit_temperature: fits one to logits and labels.

    Returns:
      The scaled logits, in the same order, and both temperatures.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[::2], order[1::2]
    scaled, temperatures = logits.copy(), []
    for fit, use in (halves, halves[::-1]):
        temperatures.append(float(fit_temperature(logits[fit], labels[fit])))
        scaled[use] /= temperatures[-1]
    return scaled, (temperatures[0], temperatures[1])


def _summary(
    plain: Mapping[str, Reliability], after: Mapping[str, Reliability], clone: str
) -> str:
    summary = (
        "A network is calibrated where its accuracy (line) is its confidence (dotted). "
        f"The clone's expected calibration error is {plain[clone].ece:.1f} %, the "
        f"baseline's {plain['baseline'].ece:.1f} %"
    )
    if not after:
        return f"{summary}."
    return (
        f"{summary}; one temperature brings them to {after[clone].ece:.1f} % and "
        f"{after['baseline'].ece:.1f} %. It is fitted on one half of the test images "
        "and judged on the other, both ways, so no image judges a temperature that it "
        "helped to fit."
    )


def _diagram(words: str, diagram: Reliability, directory: Path) -> Picture:
    return Picture(
        render(
            figures.draw_reliability(diagram, clone=words != "Baseline"),
            directory / f"reliability_{words.lower().replace(' ', '_')}",
            size=(3.4, 3.2),
        ),
        f"{words}: accuracy by confidence, and how many images there are of each.",
        f"Reliability diagram, {words}: expected calibration error {diagram.ece:.1f} "
        "percent.",
    )
