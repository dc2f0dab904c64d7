"""The programs of examples/, as they are."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
pytestmark = pytest.mark.slow


def run(name, directory, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    ran = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_they_are_short():
    lengths = {p.name: p.read_text().count("\n") for p in EXAMPLES.glob("*.py")}
    assert len(lengths) == 3
    assert all(length <= 60 for length in lengths.values()), lengths


def test_a_network_of_nnx_learns_from_arrays(tmp_path):
    out = run("nnx_on_arrays.py", tmp_path)
    assert re.search(r"clone: top-1 9\d\.\d\d %", out)
    assert len(re.findall(r"^a \d: \d with \d+ %$", out, re.MULTILINE)) == 5
    assert (tmp_path / "runs/mine/report/index.html").exists()


def test_the_loss_helps_where_the_page_says_that_it_does():
    names = runpy.run_path(str(EXAMPLES / "only_the_loss.py"))
    gains = np.subtract(names["ours"], names["plain"])
    assert len(gains) == 5
    assert gains.mean() > 0.7  # of 1.41 on one CPU
