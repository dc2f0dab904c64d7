"""Telling people: live progress, the metrics file, TensorBoard, the final table."""

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console, ConsoleOptions, RenderResult
from rich.jupyter import JupyterMixin
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from clonalnet_jax.errors import displayable, displayable_lines
from clonalnet_jax.workdir.records import METRICS, drop_after
from clonalnet_jax.workdir.sealed import seal_log
from clonalnet_jax.workdir.tensorboard import Board

_COLUMNS = ("top-1 %", "top-5 %", "nll", "ece %", "parameters", "train")
# What a narrow terminal shows first.
_BY_WORTH = ("top-1 %", "nll", "ece %", "top-5 %", "parameters", "train")


def results_table(
    results: Mapping[str, Mapping[str, Any]], on: str = "the test split"
) -> "ResultsTable":
    """Puts the results of all runs side by side.

    Args:
      results: The content of `results.json`.
      on: The images that they were measured on, in words.

    Returns:
      A table for a terminal of any width, or a notebook.
    """
    return ResultsTable(results, on)


class ResultsTable(JupyterMixin):
    """A table that leaves columns out, the last first, where they would not fit."""

    def __init__(self, results: Mapping[str, Mapping[str, Any]], on: str) -> None:
        """Takes what `results_table` does."""
        self._on = on
        self._cells = {
            displayable(run): {
                "top-1 %": f"{row['top1']:.2f}",
                "nll": f"{row['nll']:.4f}",
                "ece %": f"{row['ece']:.2f}",
                "top-5 %": f"{row['top5']:.2f}",
                "parameters": f"{row['num_parameters']:,}",
                "train": f"{row['train_seconds']:.0f} s",
            }
            for run, row in results.items()
        }

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Yields the table, and the names of the columns that it leaves out."""
        shown = list(_BY_WORTH)
        while len(shown) > 1 and self._width(shown) > options.max_width:
            shown.pop()
        table = Table(title=f"Results on {displayable(self._on)}", title_justify="left")
        table.add_column("run", overflow="fold")
        columns = [column for column in _COLUMNS if column in shown]
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for run, cells in self._cells.items():
            table.add_row(Text(run), *(cells[column] for column in columns))
        yield table
        if left_out := [column for column in _COLUMNS if column not in shown]:
            yield Text(f"Too narrow for {', '.join(left_out)}: see results.json")

    def _width(self, columns: Sequence[str]) -> int:
        """The characters of a line, each cell with its margins and a border."""
        widths = [max(map(len, ["run", *self._cells]))]
        for column in columns:
            texts = [cells[column] for cells in self._cells.values()]
            widths.append(max(map(len, [column, *texts])))
        return sum(width + 3 for width in widths) + 1


# Without a terminal, seconds between two lines at least, but for evaluations.
_QUIET = 5.0
# In a notebook, seconds between two states of the bar, and its characters.
_BLINK, _WIDTH = 0.5, 20
# Seconds of steps that the time left is estimated from; one step may take many.
_REMEMBERED = 3600.0


class Journal:
    """Where training says what it does; silent on every process but the first.

    `metrics.jsonl` gets one JSON object a line: `run`, `split`, `step` and the
    metrics. TensorBoard events lie in `tensorboard/<run>`.
    """

    def __init__(self, workdir: Path) -> None:
        """Reports into a workdir that exists or will, and to standard output."""
        self._workdir = workdir
        self._primary = jax.process_index() == 0
        self._console = Console(quiet=not self._primary, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._run = ""
        self._board: Board | None = None
        self._note = self._result = ""
        self._said = 0.0
        self._bar: Any = None  # IPython's handle of a line in a notebook

    def say(self, text: str) -> None:
        """Prints a line; markup in it is not interpreted."""
        self._console.print(displayable_lines(text), markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Prints something that the user should see, in yellow on a terminal."""
        self._console.print(
            f"WARNING: {displayable_lines(text)}",
            markup=False,
            highlight=False,
            style="yellow",
        )

    def start_run(self, run: str, *, num_steps: int, step: int) -> None:
        """Opens a run's progress bar and files, dropping what was logged beyond `step`.

        Args:
          run: Name of the run.
          num_steps: Number of steps of the whole run.
          step: Number of steps done; a killed run may have logged more than it saved.
        """
        self._run, self._note, self._result = run, "", ""
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),  # all columns fit in 80 characters
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            get_time=time.monotonic,
            speed_estimate_period=_REMEMBERED,
            disable=not self._console.is_interactive,
        )
        self._task = self._progress.add_task(
            run, total=num_steps, completed=step, note="compiling"
        )
        self._progress.start()
        self._said = time.monotonic()
        if self._console.is_jupyter and self._primary:
            from IPython.display import display

            self._bar = display(self._line("compiling"), raw=True, display_id=True)
        elif not self._console.is_interactive:
            self.say(f"  {run} {step}/{num_steps}  compiling")
        if self._primary:
            drop_after(self._workdir, run, step, warn=self.warn)
            self._board = Board(self._workdir / "tensorboard" / run, step)

    def end_run(self) -> None:
        """Closes what `start_run` opened; does nothing where nothing is open."""
        if self._progress is not None:
            if self._bar is not None:
                self._bar.update(self._line(self._note), raw=True)
                self._bar = None
            self._progress.stop()
            self._progress = None
        if self._board is not None:
            self._board.close()
            self._board = None
            seal_log(self._workdir, METRICS)

    def advance(self, step: int) -> None:
        """Moves the bar to a step."""
        if self._progress is None:
            return
        self._progress.update(self._task, completed=step, note=self._note)
        if self._bar is not None and time.monotonic() - self._said >= _BLINK:
            self._said = time.monotonic()
            self._bar.update(self._line(self._note), raw=True)

    def log(self, split: str, step: int, metrics: Mapping[str, float]) -> None:
        """Records metrics of the open run.

        Args:
          split: `train`, `holdout` or `test`.
          step: The step that they belong to.
          metrics: The metrics by name.
        """
        if not self._primary:
            return
        record = {"run": self._run, "split": split, "step": step, **metrics}
        with (self._workdir / METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")
        assert self._board is not None, "start_run comes first"
        self._board.add(split, step, metrics)
        self._show(split, step, metrics)

    def table(self, results: Mapping[str, Mapping[str, Any]], on: str) -> None:
        """Prints the results of all runs side by side; see `results_table`."""
        self._console.print(results_table(results, on))

    def _show(self, split: str, step: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar; without a terminal, prints a line now and then."""
        assert self._progress is not None, "start_run comes first"
        is_result = split != "train"
        if not is_result:
            self._note = (
                f"top-1 {metrics['top1']:.1f} %  "
                f"{metrics['images_per_second']:,.0f} images/s"
            )
            self._progress.update(self._task, note=self._note)
        else:
            self._result = f"  {split} top-1 {metrics['top1']:.1f} %"
        if self._console.is_interactive or self._bar is not None:
            return
        if is_result or time.monotonic() - self._said >= _QUIET:
            self._said = time.monotonic()
            total, left = self._far()
            result = self._result if is_result else ""
            self.say(f"  {self._run} {step}/{total}  {left} left  {self._note}{result}")

    def _far(self) -> tuple[int, str]:
        """The number of steps, and an estimate of the time left, once there is one."""
        assert self._progress is not None, "start_run comes first"
        task = self._progress.tasks[self._task]
        left = "-:--:--"
        if task.time_remaining is not None:
            left = str(datetime.timedelta(seconds=round(task.time_remaining)))
        return round(task.total or 0), left

    def _line(self, note: str) -> dict[str, str]:
        """The progress bar of a notebook."""
        assert self._progress is not None, "start_run comes first"
        total, left = self._far()
        step = round(self._progress.tasks[self._task].completed)
        done = round(_WIDTH * step / max(total, 1))
        bar = "━" * done + "─" * (_WIDTH - done)
        text = f"{self._run} {bar} {step}/{total}  {left} left  {note}{self._result}"
        return {"text/plain": displayable(text)}
