"""How far confidence can be trusted: reliability, temperature, risk and coverage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from clonalnet_jax.analysis.calibration import cross_fit, fit_temperature
from clonalnet_jax.analysis.reliability import Reliability, reliability, risk_coverage
from clonalnet_jax.report import figures
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.page import Column, Picture, Table
from clonalnet_jax.report.rendering import render


def calibration_section(evidence: Evidence, directory: Path) -> dict[str, Any]:
    """Reliability before and after a temperature, and risk by coverage, of each run.

    Args:
      evidence: The evidence of the report.
      directory: Directory of the figures.

    Returns:
      What the page shows.
    """
    labels, clone, logits = evidence.labels, evidence.clone, evidence.logits
    plain = {run: reliability(x, labels) for run, x in logits.items()}
    after = {run: reliability(scaled(evidence, run), labels) for run in logits}
    diagrams = {
        "Baseline": plain["baseline"],
        "Clone": plain[clone],
        "Clone after temperature scaling": after[clone],
    }
    columns = {
        "ece %": {run: f"{d.ece:.2f}" for run, d in plain.items()},
        "ece %, scaled": {run: f"{d.ece:.2f}" for run, d in after.items()},
        "best temperature": {
            run: f"{fit_temperature(x, labels):.2f}" for run, x in logits.items()
        },
    }
    risks = {run: risk_coverage(x, labels) for run, x in logits.items()}
    curves = {run: risks[run] for run in evidence.drawn}
    columns["aurc %"] = {run: f"{100 * r.aurc:.3f}" for run, r in risks.items()}
    return {
        "summary": _summary(evidence, plain, after),
        "diagrams": [_diagram(*item, directory) for item in diagrams.items()],
        "table": Table(
            "Expected calibration error over 15 bins of confidence, the temperature "
            "that would suit the test split best, and the area under the risk-coverage "
            "curve.",
            (Column("run"), *map(Column, columns)),
            [(run, *(column[run] for column in columns.values())) for run in logits],
        ),
        "risk": Picture(
            render(
                figures.draw_risk_coverage(curves, clone), directory / "risk_coverage"
            ),
            "Wrong answers among the images that a network is most sure of, by how "
            "many of them it answers.",
            "Line chart of error by share of images answered; with all answered "
            + ", ".join(f"{run} {100 * c.risk[-1]:.1f} %" for run, c in curves.items())
            + ".",
        ),
    }


def scaled(evidence: Evidence, run: str) -> Float[np.ndarray, "n classes"]:
    """Logits over a temperature in which their own images have no say.

    Args:
      evidence: The evidence of the report.
      run: Name of the run.

    Returns:
      `[n, classes]`: the temperature is that of held-out training images where the
      run's are saved, otherwise each half of the test split gives the other's.
    """
    logits = evidence.logits[run]
    if run in evidence.holdout:
        return logits / fit_temperature(*evidence.holdout[run])
    return cross_fit(logits, evidence.labels)


def _summary(
    evidence: Evidence,
    plain: Mapping[str, Reliability],
    after: Mapping[str, Reliability],
) -> str:
    halves = "one half of the test images and judged on the other, both ways"
    fitted = "held-out training images"
    if missing := [run for run in evidence.logits if run not in evidence.holdout]:
        fitted += f" (for {', '.join(missing)}: on {halves})"
    if not evidence.holdout:
        fitted = halves
    before, clone = plain["baseline"], evidence.clone
    return (
        "A network is calibrated where its accuracy (line) is its confidence (dotted). "
        f"The clone's expected calibration error is {plain[clone].ece:.1f} %, the "
        f"baseline's {before.ece:.1f} %; one temperature brings them to "
        f"{after[clone].ece:.1f} % and {after['baseline'].ece:.1f} %. It is fitted on "
        f"{fitted}, so no image judges a temperature that it helped to fit."
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
