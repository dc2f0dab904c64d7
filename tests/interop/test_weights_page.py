"""docs/weights.md, command by command."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch_bridge as bridge

ROOT = Path(__file__).parent.parent.parent
# The recipe is ImageNet's; here are 48 images, of 48x48 pixels.
FEW = [
    *("--config.batch_size=16", "--config.steps=4"),
    "--config.data.image_size=48",
]

bridge.import_torch()


@pytest.fixture
def blocks():
    """The fenced blocks of the page: (language, text)."""
    text = (ROOT / "docs" / "weights.md").read_text()
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_works(
    blocks, tmp_path, folder, checkpoint, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(folder)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shutil.copy(checkpoint, "resnet18.pth")
    modes = []
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "docs/weights.md", "exec"), {})
        if language:  # sh: benchmarks, which are no part of the walk
            continue
        python, script, *arguments = shlex.split(text.replace("\\\n", " "))
        assert (python, script) == ("python", "main.py")
        command = [sys.executable, ROOT / script, *arguments, *FEW]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        modes.append(next((a for a in arguments if "--mode" in a), "--mode=train"))
    assert modes == ["--mode=train", "--mode=export", "--mode=predict"]
    for name in ("ant", "what confused the baseline"):
        assert name in result.stdout
