"""docs/method.md: its program prints what it says, and its figures are made."""

import contextlib
import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import method_drawing, results_figure

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "method.md").read_text()
PROGRAM, OUTPUT = re.findall(r"^```(?:python)?\n(.*?)^```", PAGE, re.M | re.S)[-2:]


def numbers(text):
    return [float(x) for x in re.findall(r"[+-]?\d+\.?\d*", text)]


def test_the_program_prints_what_the_page_says():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(PROGRAM, "docs/method.md", "exec"), {})
    np.testing.assert_allclose(numbers(said.getvalue()), numbers(OUTPUT), atol=0.011)


def test_the_drawing_marks_the_confusing_set():
    soft = np.array([0.6, 0.15, 0.25])
    drawn = method_drawing.draw(
        np.array([[0, 255], [9, 8]], np.uint8), soft, soft > 0.2, 0
    )
    root = ElementTree.fromstring(drawn)
    bars = [x.get("class") for x in root.iter() if x.get("class") in ("bar", "set")]
    assert bars == ["set", "bar", "set"]
    assert "prefers-color-scheme: dark" in drawn


def test_the_most_confusing_image_is_drawn():
    logits = np.array([[9.0, 0.0, 0.0, 0.0], [2.2, 2.1, 2.0, -9.0], [3.0, 2, 2, -9]])

    class Known:
        """Answers as it was told."""

        def logits(self, images):
            """The logits of all."""
            return logits

    assert method_drawing.choose(Known(), np.zeros(3), np.zeros(3, int)) == 1


def test_the_figure_of_results_has_every_difference_of_the_page():
    lines = results_figure.read((ROOT / "docs" / "results.md").read_text())
    assert len(lines) >= 6
    references = {"baseline", "retraining", "distillation", "best tuned distillation"}
    assert {line.reference for line in lines} == references
    for line in lines:
        assert line.low < line.mean < line.high
        assert not line.shown or line.low > 0 or line.high < 0
    digits = lines[0]
    assert (digits.section, digits.shown) == ("Digits", True)
    assert results_figure.draw(lines).axes


@pytest.mark.slow
@pytest.mark.parametrize("script", [method_drawing, results_figure])
def test_the_figures_are_made_by_the_commands(
    tmp_path, trained_digits, monkeypatch, script
):
    figure = tmp_path / "figure.svg"
    arguments = [f"--figure={figure}"]
    if script is method_drawing:
        # Not in a process of its own: the network is one of the test's.
        arguments.append(f"--workdir={trained_digits[1]}")
    monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
    script.main()
    ElementTree.parse(figure)
