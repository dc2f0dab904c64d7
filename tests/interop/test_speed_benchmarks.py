"""Every benchmark of speed, once at toy size: it runs, and compares like with like."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch_bridge as bridge

ROOT = Path(__file__).parent.parent.parent

bridge.import_torch()


@pytest.fixture
def run(tmp_path, tfds_dir):
    """Runs a benchmark; what it has written, and what it has printed."""

    def run(name, *arguments):
        output = tmp_path / "figures.json"
        command = [sys.executable, f"benchmarks/{name}.py", *arguments]
        result = subprocess.run(
            [*command, f"--output={output}"],
            cwd=ROOT,
            # At toy size, compiling takes longer than what is timed.
            env={
                **os.environ,
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
                "TFDS_DATA_DIR": tfds_dir,
            },
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(output.read_text()), result.stdout

    return run


@pytest.mark.parametrize("pairs", [1, 3])
def test_the_loss(run, pairs):
    figures, printed = run(
        "loss",
        "--sizes=8x10",
        "--dtypes=float32",
        "--seconds=0",
        "--notorch_compile",
        f"--pairs={pairs}",
    )
    assert {row["pairs"] for row in figures["rows"]} == {pairs}
    assert [row["by"] for row in figures["rows"]] == ["ours", "autodiff", "torch eager"]
    assert all(row["seconds"] > 0 < row["floor_seconds"] for row in figures["rows"])
    assert "of the floor" in printed


def test_the_step(run):
    ((figures,), printed) = run(
        "step", "--models=resnet8", "--batch_size=4", "--seconds=0"
    )
    ours = ("plain", "clone", "cached", "untuned")
    theirs = ("plain", "clone", "tuned")
    assert [*figures["rows"]] == [*ours, *(f"torch {name}" for name in theirs)]
    losses = figures["first_losses"]
    # The same weights and images: the same work.
    assert losses["torch clone"] == pytest.approx(losses["clone"], rel=1e-4)
    assert losses["cached"] == pytest.approx(losses["clone"], abs=1e-3)
    assert losses["torch plain"] == pytest.approx(losses["plain"], rel=1e-4)
    assert figures["rows"]["clone"]["flops"] > figures["rows"]["plain"]["flops"]
    assert "of the roofline" in printed


def test_whole_runs(run):
    figures, printed = run(
        "time_to_accuracy",
        "--config=configs/digits.py",
        "--config.steps=4",
        "--config.log_every_steps=1",
        "--config.baseline.min_top1=0.0",
        "--target=1",
        "--again",
    )
    assert [*figures["rows"]] == ["ours", "ours again", "torch"]
    for row in figures["rows"].values():
        first, *reached = (row["first_steps"], *row["reached"].values())
        assert 0 < first < reached[0] <= reached[1] <= row["seconds"]
    assert "start to finish" in printed


def test_what_surrounds_the_steps(run):
    figures, printed = run(
        "overheads",
        "--config=configs/digits.py",
        "--config.steps=2",
        "--config.methods=()",
        "--config.baseline.min_top1=0.0",
        "--steps=30",
    )
    assert figures["start_warm_seconds"] > 0 < figures["bare_step_seconds"]
    assert len(figures["rss_mib"]) == 2
    assert "idle between steps" in printed


def test_how_it_grows(run, tmp_path):
    figure = tmp_path / "growth.svg"
    figures, _ = run(
        "growth",
        f"--figure={figure}",
        "--batch_size=4",
        "--batches=4,8",
        "--many_classes=10",
        "--devices=1,2",
        "--seconds=0",
    )
    assert [point["value"] for point in figures["devices"]] == [1, 2]
    assert "images a device" in figure.read_text()


def test_what_a_step_consists_of(run, tmp_path):
    figure = tmp_path / "timeline.svg"
    arguments = ("--model=resnet8", "--batch_size=8", f"--figure={figure}")
    figures, _ = run("timeline", *arguments)
    plain, clone = figures["rows"]["plain"], figures["rows"]["clone"]
    assert plain["intervals"].keys() == clone["intervals"].keys()
    # Only a clone has a baseline.
    assert not plain["intervals"].pop("baseline")
    assert all(plain["intervals"].values())
    assert all(clone["intervals"].values())
    assert 0 <= clone["idle_percent"] < 100
    assert "weight gradients" in figure.read_text()


def test_checkpoints(run):
    sizes = ("--model=resnet8", "--batch_size=4", "--steps=6", "--every=2")
    figures, printed = run("checkpointing", *sizes)
    assert figures["waited_seconds"] > 0 < figures["step_seconds"]
    assert "waiting for saves" in printed


def test_more_devices(run):
    figures, _ = run("scaling", "--devices=1,2", "--steps=2", "--batch_size=8")
    one, two = figures["rows"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["sent"].keys() == {"all-reduce"}
