"""What a run says where its output is no terminal."""

import datetime
import io
import re
from typing import ClassVar

import pytest
from rich.console import Console

from clonalnet_jax.workdir import journal

TRAIN = {"top1": 50.0, "images_per_second": 1234.0}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    seconds = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_line_says_how_far_it_is_but_not_too_often(tmp_path, capsys, clock):
    told = journal.Journal(tmp_path)
    told.start_run("clone", num_steps=100, step=20)
    for step in range(30, 100, 10):
        clock[0] += 2
        told.advance(step)
        told.log("train", step, TRAIN)
    told.log("test", 90, {"top1": 60.0})
    told.end_run()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "  clone 20/100  compiling"
    assert [line.split()[1] for line in lines] == ["50/100", "80/100", "90/100"]
    assert all("left  top-1 50.0 %  1,234 images/s" in line for line in lines)
    assert [" test top-1 60.0 %" in line for line in lines] == [False, False, True]


@pytest.mark.parametrize(
    ("environment", "bar", "colours"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
    ],
    ids=["colours", "no colours", "dumb"],
)
def test_what_a_terminal_cannot_or_must_not_do_is_left_out(
    tmp_path, capsys, monkeypatch, clock, environment, bar, colours
):
    """A dumb one gets lines, as a pipe does."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes a terminal of a pipe
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = journal.Journal(tmp_path)
    told.start_run("clone", num_steps=100, step=0)
    clock[0] += 60
    told.log("train", 50, TRAIN)
    told.warn("look here")
    told.end_run()
    out = capsys.readouterr().out
    assert ("\x1b[2K" in out) == bar
    assert (re.search(r"\x1b\[[\d;]*3\d[;m]", out) is not None) == colours
    assert ("\n  clone 50/100" in out) == (not bar)


@pytest.mark.parametrize("seconds", [0.5, 40.0])
def test_the_time_left_is_that_of_the_steps_so_far(tmp_path, capsys, clock, seconds):
    told = journal.Journal(tmp_path)
    told.start_run("clone", num_steps=100, step=0)
    clock[0] += 900  # compiling
    for step in range(1, 41):
        clock[0] += seconds
        told.advance(step)
    told.log("test", 40, {"top1": 60.0})
    told.end_run()
    left = str(datetime.timedelta(seconds=round(60 * seconds)))
    assert f" 40/100  {left} left" in capsys.readouterr().out


def test_a_second_run_begins_anew(tmp_path, capsys, clock):
    told = journal.Journal(tmp_path)
    for run in ("baseline", "clone"):
        told.start_run(run, num_steps=10, step=0)
        told.log("train", 5, TRAIN)
        told.end_run()
        clock[0] += 60
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  baseline 0/10  compiling", "  clone 0/10  compiling"]


def test_the_bar_moves_and_the_time_that_is_left_falls(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    told = journal.Journal(tmp_path)
    told.start_run("clone", num_steps=100, step=0)
    task = told._progress.tasks[0]
    told.advance(50)
    assert (task.completed, task.total) == (50, 100)
    told.end_run()


class Handle:
    """A line of a notebook."""

    states: ClassVar = []

    def update(self, state, *, raw):
        """Takes another state of the line."""
        assert raw
        self.states.append(state["text/plain"])


def test_a_notebook_has_one_line_that_moves(tmp_path, monkeypatch, clock):
    shown = Handle()
    told = journal.Journal(tmp_path)
    monkeypatch.setattr(told._console, "is_jupyter", True)
    first = []

    def display(state, *, raw, display_id):
        first.append(state["text/plain"])
        return shown

    monkeypatch.setattr("IPython.display.display", display)
    told.start_run("clone", num_steps=100, step=0)
    for step in range(10, 110, 10):
        clock[0] += 0.3
        told.advance(step)
        told.log("train", step, TRAIN)
    told.log("test", 100, {"top1": 60.0})
    told.end_run()
    assert first == ["clone " + 20 * "─" + " 0/100  -:--:-- left  compiling"]
    assert len(shown.states) == 6  # every second step, and the end
    assert shown.states[1].startswith("clone " + 8 * "━" + 12 * "─" + " 40/100")
    assert shown.states[-1].startswith("clone " + 20 * "━" + " 100/100")
    assert shown.states[-1].endswith("test top-1 60.0 %")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_name_is_broken_in_a_narrow_terminal(width):
    row = dict.fromkeys(("top1", "top5", "nll", "ece", "train_seconds"), 12.5)
    row |= {"num_parameters": 25_557_032}
    names = ("baseline", "clone_without_negentropy", "logit_standardisation")
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(journal.results_table(dict.fromkeys(names, row)))
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert all(name in text for name in names)
    assert "top-1 %" in text
    assert "…" not in text
    assert ("see results.json" in " ".join(text.split())) == (width < 90)
