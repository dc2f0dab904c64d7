"""docs/frozen.md: every block is a program that trains a clone of its baseline."""

import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest

import clonalnet_jax as cn

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "frozen.md").read_text(), re.M | re.S
)
# Name of the workdir, of the library that is needed, and the baseline's least top-1.
PROGRAMS = [("linear", "sklearn", 90), ("keras", "keras", 80), ("jimm", "jimm", 0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "name", "library", "least"),
    [(BLOCKS[i], *row) for i, row in enumerate(PROGRAMS)],
    ids=[row[0] for row in PROGRAMS],
)
def test_a_clone_learns_from_it(tmp_path, program, name, library, least):
    if util.find_spec(library) is None:
        pytest.skip("needs the extra [frameworks]")
    # A process of its own: Keras chooses its backend once.
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    workdir = tmp_path / "runs" / name
    results = cn.evaluate(workdir)  # here its library is not imported
    assert results["baseline"]["top1"] > least
    assert results["clone"]["top1"] > 90 or not least
    images = np.zeros((2, 8, 8), np.uint8)
    assert cn.load(workdir, "baseline").logits(images).shape == (2, 10)
    assert "baseline" in ran.stdout


def test_each_block_is_such_a_program():
    assert len(BLOCKS) == len(PROGRAMS)
