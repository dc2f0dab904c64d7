"""examples/timm_and_back.py, on weights that timm has drawn and a few images."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch_bridge as bridge
from PIL import Image

bridge.import_torch()
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "timm_and_back.py"


@pytest.mark.slow
def test_a_clone_of_timm_goes_back(tmp_path, rng, monkeypatch, capsys):
    timm = pytest.importorskip("timm")
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
    given = [str(tmp_path / "model.safetensors"), str(tmp_path)]
    small = ["--baseline=resnet18", "--epochs=1", "--batch_size=8", "--min_top1=0"]
    monkeypatch.setattr(sys, "argv", ["timm_and_back.py", *given, *small])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    off = re.search(r"off by (\S+) at most", capsys.readouterr().out)
    assert off is not None
    assert float(off[1]) < 1e-3
