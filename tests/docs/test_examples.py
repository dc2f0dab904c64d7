"""The programs of examples/, as they are."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_a_clone_of_timm_goes_back_in_interop(tmp_path, rng):
    timm = pytest.importorskip("timm", reason="needs [interop]")
    from safetensors.torch import save_file

    for split, count in (("train", 8), ("test", 4)):
        for label in ("cat", "dog"):
            directory = tmp_path / split / label
            directory.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(directory / f"{k}.png")
    network = timm.create_model("resnet18", num_classes=2)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    given = tmp_path / "model.safetensors", tmp_path
    small = "--baseline=resnet18", "--epochs=1", "--batch_size=8"
    out = run("timm_and_back.py", tmp_path, *given, *small)
    off = re.search(r"off by (\S+) at most", out)
    assert off is not None
    assert float(off[1]) < 1e-3
