"""main.py as a user starts it: messages and exit codes."""

import json
import subprocess
import sys

import program
import pytest
from program import finish

from clonalnet_jax.data import open_dataset

FEW_STEPS = [
    "--config.methods=('clone',)",
    "--config.steps=60",
    "--config.checkpoint_every_epochs=2.0",
    "--config.log_every_steps=5",
    "--config.baseline.min_top1=0.0",
]


# KiB a file: less than one weight of the network. How a checkpoint spreads its weights
# over files differs from save to save, and each may be a half of the whole.
SMALL_DISK = ["bash", "-c", 'ulimit -f 32 && exec "$@"', "limit"]


@pytest.fixture
def start(tfds_dir):
    """Starts main.py with the digits."""

    def start(*arguments, config="configs/digits.py", before=()):
        command = [sys.executable, "main.py", f"--config={config}", *arguments]
        return program.start([*before, *command], tfds_dir=tfds_dir)

    return start


def test_training_starts_without_what_only_other_modes_need():
    others = ["torch", "scipy.stats", "matplotlib", "onnx", "tensorflow"]
    code = f"""
import sys
import clonalnet_jax.modes
import clonalnet_jax.training.story
found = sorted(set({others}) & set(sys.modules))
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], cwd=program.ROOT, check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.sede=1"], "unknown config key 'sede': did you mean 'seed'?"),
        (["--config.seed=one"], "--config.seed=one"),
        (["--wrokdir=x"], "Did you mean: workdir"),
        (["--mode=trian"], "train|evaluate"),
        (["stray"], "Unexpected argument 'stray'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_message(start, arguments, message):
    output = finish(start(*arguments), code=2)
    assert output.startswith("ERROR: ")
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("def get_config(:", "config.py, line 1\n  got:      invalid syntax"),
        ("def get_config():\n  return 1 / 0", "division by zero"),
        (
            "from clonalnet_jax.configs import default\ndef get_config():\n"
            "  c = default.get_config()\n  c.epoch = 3\n  return c",
            "did you mean 'epochs'",
        ),
    ],
)
def test_a_broken_config_file_is_one_message(start, tmp_path, text, message):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    output = finish(start(config=path), code=2)
    assert message in output
    assert "Traceback" not in output


def test_a_workdir_that_cannot_be_written_is_one_message(start, tmp_path):
    (tmp_path / "file").write_text("")
    output = finish(start(f"--workdir={tmp_path / 'file' / 'run'}"), code=2)
    assert "Not a directory" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_write_that_fails_stops_with_what_was_saved_intact(
    start, tmp_path, digits_config
):
    """A limit on the file size stands in for a full disk: it needs no privilege."""
    workdir = tmp_path / "run"
    arguments = [f"--workdir={workdir}", *FEW_STEPS]
    elsewhere = f"--config.data.path={tmp_path / 'tfds'}"
    output = finish(start(*arguments, elsewhere, before=SMALL_DISK), code=2)
    assert "cannot prepare data set 'digits'" in output
    assert "Traceback" not in output
    open_dataset(digits_config.data, seed=0)  # prepares where the runs will look
    output = finish(start(*arguments, before=SMALL_DISK), code=2)
    assert "cannot write checkpoints" in output
    assert str(workdir / "baseline") in output
    assert "Traceback" not in output
    finish(start(*arguments))
    assert json.loads((workdir / "results.json").read_text())["clone"]["top1"] > 60
    export = [f"--workdir={workdir}", "--mode=export", "--format=orbax"]
    output = finish(start(*export, before=SMALL_DISK), code=2)
    assert "--output" in output
    assert str(workdir / "export" / "clone.orbax") in output
    assert "Traceback" not in output
    assert not list((workdir / "export").iterdir())
    finish(start(*export))
    assert (workdir / "export" / "clone.orbax").is_dir()
