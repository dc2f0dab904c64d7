"""benchmarks/input_pipeline.py, once, on a few small images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch_bridge as bridge
from PIL import Image

ROOT = Path(__file__).parent.parent.parent

bridge.import_torch()


def test_it_measures_and_writes_its_figures(tmp_path, rng):
    for name in ("ant", "cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(2):
            pixels = rng.integers(256, size=(90, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.jpg")
    output = tmp_path / "figures.json"
    command = [sys.executable, ROOT / "benchmarks" / "input_pipeline.py"]
    command += [f"--images={tmp_path}/images", f"--output={output}", "--workers=1"]
    command += ["--passes=1", "--samples=100", "--epochs=2"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(output.read_text())
    assert len(figures["rows"]) == 4
    for row in figures["rows"]:
        assert row["over_usual"] == row["ours"] / row["usual"] > 0
    assert "over least" in result.stdout
