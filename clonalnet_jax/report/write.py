"""The story of a report: evidence, sections, one page."""

from pathlib import Path

from ml_collections import ConfigDict

import clonalnet_jax
from clonalnet_jax.report import sections
from clonalnet_jax.report.calibrated import calibration_section
from clonalnet_jax.report.confused import confusion_section
from clonalnet_jax.report.evidence import collect_evidence
from clonalnet_jax.report.gallery import LEAST_SIDE, make_galleries
from clonalnet_jax.report.headline import make_headline
from clonalnet_jax.report.page import render_page
from clonalnet_jax.workdir.files import write_atomically


def write_report(
    workdir: Path, config: ConfigDict | None = None, *, run: str = "clone"
) -> Path:
    """Writes `report/index.html`, `report/classes.csv` and `report/figures/`.

    Args:
      workdir: Workdir of a `train`, or of a `compare`, whose first seed's images are
        shown.
      config: None for the one that the workdir was trained with.
      run: The run that is compared with the baseline.

    Returns:
      The page, one file without references to anything else.

    Raises:
      UserError: There is no baseline, no such run, or the data cannot be read.
    """
    evidence = collect_evidence(workdir, config, run=run)
    report = workdir / "report"
    figures = report / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    confusion = confusion_section(evidence, figures)
    write_atomically(report / "classes.csv", confusion.pop("csv"))
    mended, broken = make_galleries(evidence)
    page = render_page(
        title=sections.title(evidence),
        subtitle=sections.subtitle(evidence),
        headline=make_headline(evidence, figures),
        curves=sections.training_section(evidence, figures),
        confusion=confusion,
        calibration=calibration_section(evidence, figures),
        least_side=LEAST_SIDE,
        mended=mended,
        broken=broken,
        reproduce=sections.reproduce_section(evidence),
        version=clonalnet_jax.__version__,
    )
    write_atomically(report / "index.html", page)
    return report / "index.html"
