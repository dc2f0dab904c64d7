"""Predictions on standard output: for people, for tables, for programs."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console

from clonalnet_jax.errors import csv_cell, displayable, unknown_name
from clonalnet_jax.trained.predict import Prediction, Ranking, predict_files

_COLUMNS = ("image", "kind", "rank", "class", "value", "error")


def run_predict(
    config: ConfigDict,
    workdir: Path,
    paths: Sequence[Path],
    *,
    run: str,
    format: str = "text",
) -> int:
    """Prints predictions, each as soon as its batch is known.

    Args:
      config: Config that the workdir was trained with.
      workdir: Directory of a `train`.
      paths: Files and folders.
      run: Name of the network.
      format: `text`; `csv`, with a row for each class that is printed; or `json`, an
        object a line, as `Prediction` but with lists of `[class, value]`.

    Returns:
      0, or 3 where a file could not be read.

    Raises:
      UserError: The format is unknown, there are no images, or a network cannot be
        read.
    """
    if format not in _WRITERS:
        raise unknown_name("--format", format, _WRITERS)
    predictions = predict_files(config, workdir, paths, run=run)
    return 3 if _WRITERS[format](predictions) else 0


def write_text(predictions: Iterable[Prediction]) -> int:
    """Prints a block for each file, in any width of a terminal.

    Args:
      predictions: The predictions.

    Returns:
      Number of files that could not be read.
    """
    console, unreadable = Console(soft_wrap=True), 0
    for prediction in predictions:
        path = displayable(str(prediction.path))
        if prediction.error:
            unreadable += 1
            lines = [f"SKIPPED {path}: {displayable(prediction.error)}"]
        else:
            lines = [path, *_shares(prediction.top)]
            lines += ["  what confused the baseline:"]
            lines += _shares(prediction.confusing[:5])
        # No markup: a class may be called [red].
        console.print("\n".join(lines), markup=False, highlight=False)
    return unreadable


def write_csv(predictions: Iterable[Prediction]) -> int:
    """Prints comma-separated rows: one for each class, or for what went wrong.

    Cells that a spreadsheet would run as a formula have an apostrophe before them.

    Args:
      predictions: The predictions.

    Returns:
      Number of files that could not be read.
    """
    writer, unreadable = csv.writer(sys.stdout, lineterminator="\n"), 0
    writer.writerow(_COLUMNS)
    for prediction in predictions:
        path = csv_cell(str(prediction.path))
        if prediction.error:
            unreadable += 1
            writer.writerow([path, "error", "", "", "", csv_cell(prediction.error)])
        rankings = {"top": prediction.top, "confusing": prediction.confusing}
        for kind, ranking in rankings.items():
            for rank, (name, value) in enumerate(ranking, 1):
                writer.writerow([path, kind, rank, csv_cell(name), f"{value:.6g}", ""])
    return unreadable


def write_json(predictions: Iterable[Prediction]) -> int:
    """Prints a JSON object a line for each file.

    Args:
      predictions: The predictions.

    Returns:
      Number of files that could not be read.
    """
    unreadable = 0
    for prediction in predictions:
        unreadable += bool(prediction.error)
        content = {**prediction._asdict(), "path": str(prediction.path)}
        print(json.dumps(content))
    return unreadable


def _shares(ranking: Ranking) -> list[str]:
    return [f"  {100 * value:5.1f} %  {displayable(name)}" for name, value in ranking]


_WRITERS: dict[str, Callable[[Iterable[Prediction]], int]] = {
    "text": write_text,
    "csv": write_csv,
    "json": write_json,
}
