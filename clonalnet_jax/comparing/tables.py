"""What the finished runs of several seeds say: as numbers, and as a table."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.analysis.significance import (
    FEWEST_SEEDS,
    McNemar,
    holm,
    mcnemar,
    mean_over_seeds,
    paired_difference,
)
from clonalnet_jax.comparing.seeds import METRICS, SeedFigures, measure_seeds
from clonalnet_jax.errors import csv_cell, displayable
from clonalnet_jax.training.baseline import is_given
from clonalnet_jax.workdir.files import write_atomically
from clonalnet_jax.workdir.sealed import write_sealed

REFERENCES = {
    "baseline": "the baseline",
    "cross_entropy": "plain retraining",
    "distillation": "distillation",
}
_LEVEL = 0.05
# A loss of fewer points of top-1 than this is none to speak of.
_MARGIN = 0.5

Seeds = Mapping[str, Sequence[float]]


def tabulate(
    config: ConfigDict, seeds: Sequence[int], directories: Sequence[Path]
) -> dict[str, Any]:
    """Computes a comparison from the predictions of finished runs.

    Args:
      config: The whole config; its `compare.methods` are compared.
      seeds: The seeds, in order.
      directories: The workdir of each seed.

    Returns:
      `seeds`, `test_images`, `temperature` (what it was fitted on), `caption`;
      `methods`: by run and metric `mean`, `standard_error` and `per_seed`;
      `differences`: by reference, run and metric the fields of `Difference` and
      `p_holm`; beside the metrics `mcnemar` (a list, by seed) and `verdict`.

    Raises:
      UserError: A file is missing or damaged, or the seeds' test splits differ.
    """
    return tabulate_seeds(config, measure_seeds(config, seeds, directories))


def tabulate_seeds(
    config: ConfigDict,
    found: Sequence[SeedFigures],
    *,
    references: Collection[str] = REFERENCES,
) -> dict[str, Any]:
    """Computes a comparison from the figures of seeds.

    Args:
      config: The config that they have in common.
      found: The figures of each, of the same runs on the same test images.
      references: Runs that all others are compared with, where they are there.

    Returns:
      The same as `tabulate`.
    """
    runs = list(found[0].metrics)
    metrics: dict[str, dict[str, list[float]]] = {
        run: {name: [one.metrics[run][name] for one in found] for name in METRICS}
        for run in runs
    }
    right = {run: [one.right[run] for one in found] for run in runs}
    result = {
        "seeds": [one.seed for one in found],
        "test_images": found[0].test_images,
        "temperature": _temperature(config),
        "baseline": _origin(config),
        "methods": {run: _means(metrics[run]) for run in runs},
        "differences": {
            reference: _differences(metrics, right, reference)
            for reference in references
            if reference in runs
        },
    }
    return {**result, "caption": _caption(result)}


def write_comparison(result: Mapping[str, Any], workdir: Path) -> str:
    """Writes `compare.json`, `compare.csv` and `compare.md`; returns the last."""
    markdown = _markdown(result)
    write_sealed(workdir, "compare.json", json.dumps(result, indent=2))
    write_atomically(workdir / "compare.csv", _csv(result))
    write_atomically(workdir / "compare.md", markdown)
    return markdown


def _origin(config: ConfigDict) -> str:
    return (
        "the same for all seeds" if is_given(config) else "trained anew for each seed"
    )


def _temperature(config: ConfigDict) -> str:
    """Says which images the temperatures were fitted on."""
    if not config.data.holdout:
        return "the other half of the test split"
    if is_given(config):
        return (
            "held-out training images (the given baseline's on the other half of the "
            "test split, for it may have been trained on those)"
        )
    return "held-out training images"


def _means(of_run: Seeds) -> dict[str, Any]:
    return {
        name: {**mean_over_seeds(values)._asdict(), "per_seed": list(values)}
        for name, values in of_run.items()
    }


def _differences(
    metrics: Mapping[str, Seeds],
    right: Mapping[str, Sequence[np.ndarray]],
    reference: str,
) -> dict[str, Any]:
    others = [run for run in metrics if run != reference]
    found: dict[str, dict[str, Any]] = {run: {} for run in others}
    for name in METRICS:
        by_run = {
            run: paired_difference(metrics[run][name], metrics[reference][name])
            for run in others
        }
        # The baseline has another initialisation and order: it is no method compared.
        tested = [run for run in others if run != "baseline"]
        known = {run: p for run in tested if (p := by_run[run].p_t) is not None}
        adjusted = dict(zip(known, holm(list(known.values())), strict=True))
        for run, difference in by_run.items():
            p_holm = adjusted.get(run)
            found[run][name] = {**difference._asdict(), "p_holm": p_holm}
    for run in others:
        pairs = zip(right[run], right[reference], strict=True)
        found[run]["mcnemar"] = [mcnemar(*pair)._asdict() for pair in pairs]
        ours, theirs = metrics[run]["top1"], metrics[reference]["top1"]
        found[run]["verdict"] = _verdict(found[run]["top1"], [*ours, *theirs])
    return found


def _verdict(difference: Mapping[str, float | None], values: Sequence[float]) -> str:
    """Judges top-1 by the corrected p-value, or the plain one where there is none."""
    p = difference["p_holm"]
    if p is None:
        p = difference["p_t"]
    if p is None:
        return f"not tested: {_why_not_tested(values)}"
    if p >= _LEVEL:
        low = difference["low"]
        close = low is not None and low > -_MARGIN
        no_worse = f"; not worse by {_MARGIN} points" if close else ""
        return f"no difference shown{no_worse}"
    mean = difference["mean"]
    assert mean is not None
    return "higher" if mean > 0 else "lower"


def _why_not_tested(values: Sequence[float]) -> str:
    """Says why the values of two runs, seed by seed, allow no test."""
    count = len(values) // 2
    if not np.isfinite(values).all():
        return "a value is not finite"
    if count < FEWEST_SEEDS:
        return "one seed" if count == 1 else f"{count} seeds are too few"
    return "every seed differs by the same"


def _caption(result: Mapping[str, Any]) -> str:
    count = len(result["seeds"])
    number = f"{count} seeds" if count > 1 else "one seed"
    sentences = [
        f"Mean ± standard error over {number} on {result['test_images']:,} test "
        f"images; baseline {result['baseline']}.",
        f"Scaled: with a temperature fitted on {result['temperature']}.",
        "Differences are paired by seed, with the 95 % interval of Student's t, which "
        "is not corrected for several comparisons; p (t) is that of the paired t-test, "
        "p (Holm) corrects it for the methods of its table, p (flip) is the sign-flip "
        f"test's. The verdict is on top-1, at p (Holm) below {_LEVEL}; a baseline's "
        "row is judged by p (t). From the baseline, a run differs by initialisation "
        "and data order, too. Where no difference is shown and the interval holds no "
        f"loss of {_MARGIN} points, the verdict says so. Detectable is the true "
        "difference that four of five such comparisons would show.",
        "McNemar's exact test asks whether two networks of one seed differ on these "
        "images: images that only the row's method gets right / only the other, summed "
        f"over seeds, and the seeds with p below {_LEVEL}, not corrected. It knows "
        "nothing of the luck of a seed.",
    ]
    smallest = 2 / 2**count
    if 1 > smallest >= _LEVEL:
        sentences.append(
            f"With {count} seeds, p (flip) cannot be below {smallest:.3g}; it takes 6 "
            f"for it to be below {_LEVEL}."
        )
    return " ".join(sentences)


def _markdown(result: Mapping[str, Any]) -> str:
    headings = ["run", *(heading for heading, _ in METRICS.values())]
    rows = [
        [run, *(_plus_minus(of_run[name], METRICS[name][1]) for name in METRICS)]
        for run, of_run in result["methods"].items()
    ]
    parts = [markdown_table(headings, rows)]
    for reference, found in result["differences"].items():
        parts.append(f"Top-1 minus {REFERENCES[reference]}:")
        headings = ["run", "difference", "95 % interval", "p (t)", "p (Holm)"]
        headings += ["p (flip)", "detectable", "McNemar", "verdict"]
        parts.append(markdown_table(headings, [_row(*item) for item in found.items()]))
    return "\n\n".join([*parts, result["caption"]]) + "\n"


def _row(run: str, found: Mapping[str, Any]) -> list[str]:
    top1 = found["top1"]
    interval = (
        "" if top1["low"] is None else f"{top1['low']:+.2f} to {top1['high']:+.2f}"
    )
    tests = [McNemar(**test) for test in found["mcnemar"]]
    counts = f"{sum(t.gained for t in tests):,} / {sum(t.lost for t in tests):,}"
    clear = sum(test.p < _LEVEL for test in tests)
    return [
        run,
        f"{top1['mean']:+.2f}",
        interval,
        *(_p(top1[name]) for name in ("p_t", "p_holm", "p_sign_flip")),
        "" if top1["detectable"] is None else f"{top1['detectable']:.2f}",
        f"{counts}; {clear} of {len(tests)}",
        found["verdict"],
    ]


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plus_minus(mean: Mapping[str, Any], digits: int) -> str:
    error = mean["standard_error"]
    text = f"{mean['mean']:.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Writes a table in Markdown, whatever the cells hold.

    Args:
      headings: The cells of the first line.
      rows: The lines below, each with as many cells.

    Returns:
      The lines, without a last newline.
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return displayable(text).replace("|", "\\|")


def _csv(result: Mapping[str, Any]) -> str:
    """One row per run and metric."""
    fields = ("mean", "low", "high", "p_t", "p_holm", "p_sign_flip", "detectable")
    headings = ["run", "metric", "mean", "standard_error"]
    headings += [f"minus_{ref}_{k}" for ref in result["differences"] for k in fields]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(csv_cell, headings))
    for run, of_run in result["methods"].items():
        for name, mean in of_run.items():
            row = [csv_cell(run), csv_cell(name), mean["mean"], mean["standard_error"]]
            for found in result["differences"].values():
                difference = found.get(run, {}).get(name, {})
                row += [difference.get(field) for field in fields]
            writer.writerow(row)
    return file.getvalue()
