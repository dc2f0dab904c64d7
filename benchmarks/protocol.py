"""Tables of a series of docs/protocol.md, and the test that decides it.

    python benchmarks/protocol.py docs/results/sign_digits --rival=dist_tuned

The first table has every run; a difference is bold where the paired t-test, corrected
(Holm) for the methods of its column, is below 0.05. The second is the protocol's test:
the tuned clone against its baseline, plain retraining and the best distillation,
corrected for all series named and the three of each.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.analysis.significance import (
    Difference,
    holm,
    mean_over_seeds,
    paired_difference,
)
from clonalnet_jax.comparing.seeds import SEED_FILE, SeedFigures, read_seed
from clonalnet_jax.comparing.tables import markdown_table

_LEVEL = 0.05


def read_series(directory: Path) -> list[SeedFigures]:
    """Reads the seeds of a series, in their order.

    Args:
      directory: The series, with a folder for each seed.

    Returns:
      What the seeds measured.
    """
    found = [read_seed(file) for file in directory.glob(f"*/{SEED_FILE}")]
    return sorted(found, key=lambda figures: figures.seed)


def runs_table(seeds: Sequence[SeedFigures], rival: str) -> str:
    """Tabulates every run of a series against four references.

    Args:
      seeds: The figures of the series' seeds.
      rival: The tuned distillation that had the highest score in the tuning.

    Returns:
      The table, in Markdown.
    """
    references = {
        "baseline": "baseline",
        "cross_entropy": "retraining",
        "distillation": "distillation",
        rival: "best tuned distillation",
    }
    columns = [_column(seeds, reference) for reference in references]
    rows = []
    for run in seeds[0].metrics:
        score = mean_over_seeds(_values(seeds, run, "top1"))
        others = [
            f"{np.mean(_values(seeds, run, name)):.{digits}f}"
            for name, digits in (("nll", 3), ("nll_scaled", 3), ("ece", 1))
        ]
        differences = [column.get(run, "") for column in columns]
        top1 = f"{score.mean:.2f} ± {score.standard_error or 0.0:.2f}"
        rows.append([run, top1, *differences, *others])
    first, *rest = (f"minus {name}" for name in references.values())
    headings = ["run", "top-1 %", f"{first} (95 % interval)", *rest]
    return markdown_table([*headings, "nll", "nll, scaled", "ece %"], rows)


def decision_table(
    series: Sequence[Sequence[SeedFigures]], clone: str, rival: str
) -> str:
    """Tabulates the protocol's test.

    Args:
      series: The figures of each series' seeds.
      clone: The clone that is tested.
      rival: The best distillation.

    Returns:
      The table, in Markdown; p is corrected over all its rows.
    """
    tested = [
        (number, reference, _difference(seeds, clone, reference))
        for number, seeds in enumerate(series, 1)
        for reference in ("baseline", "cross_entropy", rival)
    ]
    corrected = holm([_p(difference) for _, _, difference in tested])
    rows = [
        [str(number), f"minus {reference}", _interval(difference), f"{p:.2g}"]
        for (number, reference, difference), p in zip(tested, corrected, strict=True)
    ]
    return markdown_table(
        ["series", clone, "difference (95 % interval)", "p (Holm)"], rows
    )


def _column(seeds: Sequence[SeedFigures], reference: str) -> dict[str, str]:
    """The differences from a reference, by run."""
    runs = [run for run in seeds[0].metrics if run != reference]
    found = [_difference(seeds, run, reference) for run in runs]
    # The baseline is no method that is compared, unless it is the reference.
    methods = [run for run in runs if run != "baseline"]
    p_values = dict(zip(runs, map(_p, found), strict=True))
    corrected = dict(
        zip(methods, holm([p_values[run] for run in methods]), strict=True)
    )
    texts = {}
    for run, difference in zip(runs, found, strict=True):
        text = _interval(difference)
        shown = corrected.get(run, p_values[run]) < _LEVEL
        texts[run] = f"**{text}**" if shown else text
    return texts


def _difference(seeds: Sequence[SeedFigures], run: str, reference: str) -> Difference:
    return paired_difference(
        _values(seeds, run, "top1"), _values(seeds, reference, "top1")
    )


def _values(seeds: Sequence[SeedFigures], run: str, name: str) -> list[float]:
    return [figures.metrics[run][name] for figures in seeds]


def _p(difference: Difference) -> float:
    return 1.0 if difference.p_t is None else difference.p_t


def _interval(difference: Difference) -> str:
    return f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path, nargs="+")
    parser.add_argument("--rival", required=True)
    parser.add_argument("--clone", default="clone_tuned")
    asked = parser.parse_args()
    series = [read_series(directory) for directory in asked.series]
    for directory, seeds in zip(asked.series, series, strict=True):
        print(f"{directory}, {len(seeds)} seeds\n\n{runs_table(seeds, asked.rival)}\n")
    print(decision_table(series, asked.clone, asked.rival))


if __name__ == "__main__":
    main()
