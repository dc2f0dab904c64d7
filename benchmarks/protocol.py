"""Tables of a series of docs/protocol.md, and the test that decides it.

    python benchmarks/protocol.py docs/results/sign_digits --rival=dist_tuned
    python benchmarks/protocol.py docs/results/digits --rival=distillation --clone=clone
    python benchmarks/protocol.py SERIES ANOTHER --rival RIVAL OF_ANOTHER

The first table has every run; a difference is bold where the paired t-test, corrected
(Holm) for the methods of its column, is below 0.05. The second is the protocol's test:
the tuned clone against its baseline, plain retraining and the best distillation,
corrected for all series named and the three of each. The best distillation of a series
is that of its own tuning; a single name holds for all.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.analysis.significance import FEWEST_SEEDS, holm
from clonalnet_jax.comparing.gathering import read_seeds
from clonalnet_jax.comparing.tables import markdown_table, tabulate_seeds
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.saved_config import resolve

_LEVEL = 0.05


def read_series(directory: Path, rival: str) -> dict[str, Any]:
    """Compares the runs of a series with its references.

    Args:
      directory: The series, with a folder for each seed.
      rival: The tuned distillation that had the highest score in the tuning, or
        `distillation` itself where nothing was tuned.

    Returns:
      What `tables.tabulate_seeds` does.

    Raises:
      UserError: There are no seeds, or they do not belong together.
    """
    seeds = read_seeds([directory])
    references = ("baseline", "cross_entropy", "distillation", rival)
    return tabulate_seeds(resolve(seeds[0].config), seeds, references=references)


def runs_table(result: Mapping[str, Any], rival: str) -> str:
    """Tabulates every run of a series against its references.

    Args:
      result: The series, of `read_series`.
      rival: The tuned distillation among its references.

    Returns:
      The table, in Markdown.
    """
    names = {
        rival: "best tuned distillation",
        "cross_entropy": "retraining",
        # Which may be the rival.
        "distillation": "distillation",
    }
    rows = []
    for run, means in result["methods"].items():
        differences = [
            "" if run == reference else _difference(found[run]["top1"])
            for reference, found in result["differences"].items()
        ]
        top1 = f"{means['top1']['mean']:.2f} ± {means['top1']['standard_error']:.2f}"
        others = [
            f"{means[name]['mean']:.{digits}f}"
            for name, digits in (("nll", 3), ("nll_scaled", 3), ("ece", 1))
        ]
        rows.append([run, top1, *differences, *others])
    first, *rest = (f"minus {names.get(one, one)}" for one in result["differences"])
    headings = ["run", "top-1 %", f"{first} (95 % interval)", *rest]
    return markdown_table([*headings, "nll", "nll, scaled", "ece %"], rows)


def decision_table(
    series: Sequence[Mapping[str, Any]], clone: str, rivals: Sequence[str]
) -> str:
    """Tabulates the protocol's test.

    Args:
      series: Each series, of `read_series`.
      clone: The clone that is tested.
      rivals: The best distillation of each.

    Returns:
      The table, in Markdown; p is corrected over all its rows.
    """
    tested = [
        (str(number), reference, result["differences"][reference][clone]["top1"])
        for number, (result, rival) in enumerate(zip(series, rivals, strict=True), 1)
        for reference in ("baseline", "cross_entropy", rival)
    ]
    corrected = holm([difference["p_t"] for _, _, difference in tested])
    rows = [
        [number, f"minus {reference}", _interval(difference), f"{p:.2g}"]
        for (number, reference, difference), p in zip(tested, corrected, strict=True)
    ]
    return markdown_table(
        ["series", clone, "difference (95 % interval)", "p (Holm)"], rows
    )


def _difference(found: Mapping[str, Any]) -> str:
    """A difference, bold where the test that is corrected, if it is, shows it."""
    p = found["p_t"] if found["p_holm"] is None else found["p_holm"]
    text = _interval(found)
    return f"**{text}**" if p < _LEVEL else text


def _interval(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path, nargs="+")
    parser.add_argument("--rival", nargs="+", required=True)
    parser.add_argument("--clone", default="clone_tuned")
    asked = parser.parse_args()
    rivals = asked.rival
    if len(rivals) == 1:
        rivals *= len(asked.series)
    if len(rivals) != len(asked.series):
        parser.error(f"{len(rivals)} rivals for {len(asked.series)} series")
    series = []
    for directory, rival in zip(asked.series, rivals, strict=True):
        try:
            result = read_series(directory, rival)
        except UserError as error:
            parser.error(str(error))
        for run in (rival, asked.clone):
            if run not in result["methods"]:
                parser.error(f"{run} is none of {', '.join(result['methods'])}")
        seeds = len(result["seeds"])
        if seeds < FEWEST_SEEDS:
            parser.error(f"{directory} has {seeds} of the {FEWEST_SEEDS} seeds needed")
        print(f"{directory}, {seeds} seeds\n\n{runs_table(result, rival)}\n")
        series.append(result)
    print(decision_table(series, asked.clone, rivals))


if __name__ == "__main__":
    main()
