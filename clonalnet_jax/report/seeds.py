"""The headline of several seeds, from what `--mode=compare` has found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clonalnet_jax.comparing.seeds import METRICS
from clonalnet_jax.comparing.tables import REFERENCES
from clonalnet_jax.report.figures import draw_differences
from clonalnet_jax.report.page import Column, Headline, Picture, Table, Tile
from clonalnet_jax.report.rendering import render
from clonalnet_jax.report.words import signed

_FIRST_SEED = (
    "Curves, confusion, calibration and images below are of the first seed alone."
)


def several_seeds(result: Mapping[str, Any], clone: str, directory: Path) -> Headline:
    """Says what several seeds have shown.

    Args:
      result: Content of `compare.json`, with the clone among its methods.
      clone: Name of the run that is compared.
      directory: Directory of the figures.

    Returns:
      The headline.
    """
    found = {
        reference: by_run
        for reference, by_run in result["differences"].items()
        if clone in by_run
    }
    count = len(result["seeds"])
    number = f"{count} seeds" if count > 1 else "one seed"
    top1 = result["methods"][clone]["top1"]
    sentences = [
        _sentence(by_run[clone], REFERENCES.get(reference, reference))
        for reference, by_run in found.items()
    ]
    sentences = sentences or [f"reaches {_plus_minus(top1, 2)} % top-1"]
    tiles = [Tile("Clone, top-1 %", _plus_minus(top1, 2), number)]
    tiles += [
        Tile(
            f"Minus {REFERENCES.get(reference, reference)}",
            signed(by_run[clone]["top1"]["mean"], 2),
            f"95 % interval {_interval(by_run[clone]['top1'])}",
        )
        for reference, by_run in found.items()
    ]
    return Headline(
        f"Over {number}, the {clone} {'; '.join(sentences)}.",
        tiles,
        [_FIRST_SEED],
        [_means(result), *(_differences(*item) for item in found.items())],
        _figure(found, clone, directory),
        result["caption"],
    )


def _sentence(found: Mapping[str, Any], rival: str) -> str:
    verdict = {"higher": "a gain", "lower": "a loss"}.get(
        found["verdict"], found["verdict"]
    )
    return f"against {rival} {signed(found['top1']['mean'], 2)} points, {verdict}"


def _means(result: Mapping[str, Any]) -> Table:
    return Table(
        "Mean ± standard error on the test split.",
        (Column("run"), *(Column(title) for title, _ in METRICS.values())),
        [
            (run, *(_plus_minus(of_run[k], METRICS[k][1]) for k in METRICS))
            for run, of_run in result["methods"].items()
        ],
    )


def _differences(reference: str, by_run: Mapping[str, Any]) -> Table:
    numbers = ("p (t)", "p (Holm)", "p (flip)", "detectable", "McNemar")
    return Table(
        f"Top-1 minus that of {REFERENCES.get(reference, reference)}.",
        # The verdict before what it rests on, which a narrow page cuts off.
        (
            *map(Column, ("run", "points", "95 % interval")),
            Column("verdict", number=False),
            *map(Column, numbers),
        ),
        [
            (
                run,
                signed(found["top1"]["mean"], 2),
                _interval(found["top1"]),
                found["verdict"],
                *(_p(found["top1"][k]) for k in ("p_t", "p_holm", "p_sign_flip")),
                _points(found["top1"].get("detectable")),
                _images(found["mcnemar"]),
            )
            for run, found in by_run.items()
        ],
    )


def _figure(found: Mapping[str, Any], clone: str, directory: Path) -> Picture | None:
    """The clone against each reference; None where nothing could be tested."""
    rows = [
        (f"{clone} \N{MINUS SIGN} {reference}", one["top1"], one["verdict"])
        for reference, by_run in found.items()
        if (one := by_run[clone])["top1"]["low"] is not None
    ]
    if not rows:
        return None
    names, top1, verdicts = zip(*rows, strict=True)
    drawn = draw_differences(
        names,
        [d["mean"] for d in top1],
        [(d["low"], d["high"]) for d in top1],
        [verdict in ("higher", "lower") for verdict in verdicts],
        "difference in top-1, points",
    )
    size = (4.8, 0.8 + 0.32 * len(rows))
    return Picture(
        render(drawn, directory / "differences", size=size),
        f"Top-1 of the {clone} minus that of each reference, mean and 95 % interval; "
        "grey where the corrected test shows no difference.",
        "Chart of differences in top-1; the tables of this section have its numbers.",
    )


def _plus_minus(mean: Mapping[str, Any], digits: int) -> str:
    text, error = f"{mean['mean']:.{digits}f}", mean["standard_error"]
    return text if error is None else f"{text} ± {error:.{digits}f}"


def _interval(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return "unknown"
    return f"{signed(found['low'], 2)} to {signed(found['high'], 2)}"


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _images(tests: Sequence[Mapping[str, Any]]) -> str:
    """Images gained and lost over all seeds, and in how many of these that is clear."""
    gained, lost = (sum(test[key] for test in tests) for key in ("gained", "lost"))
    clear = sum(test["p"] < 0.05 for test in tests)
    return f"{gained:,} / {lost:,}; {clear} of {len(tests)}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
