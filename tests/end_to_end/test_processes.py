"""Kills, stops that are asked for, and several processes as a cluster starts them."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import program
import pytest
from program import ROOT, finish

from clonalnet_jax.runtime import partition
from clonalnet_jax.workdir.checkpoints import restore_variables

# Enough for a stop to come in time: JAX takes a second or two to tell all processes.
EPOCH, STEPS = 6, 120
ARGUMENTS = [
    "--config=configs/digits.py",
    "--config.methods=('clone',)",
    f"--config.steps={STEPS}",
    "--config.log_every_steps=1",
    # Of several devices every sum is rounded differently; a high rate magnifies it.
    "--config.optimizer.learning_rate=0.002",
    "--config.baseline.min_top1=0.0",
]


@pytest.fixture(scope="module")
def start(tfds_dir):
    """Starts main.py as so many processes, several with two devices each."""

    def start(workdir, *, processes):
        command = [sys.executable, "main.py", *ARGUMENTS, f"--workdir={workdir}"]
        if processes > 1:
            launcher = [sys.executable, "launch/local.py", "--devices=2"]
            command = [*launcher, f"--processes={processes}", "--", *command]
        return program.start(command, tfds_dir=tfds_dir)

    return start


def records(workdir, run="clone"):
    """The training records of a run by step; each step is there once."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["run"] == run and row["split"] == "train"]
    by_step = {row["step"]: row for row in rows}
    assert len(by_step) == len(rows)
    return by_step


def variables(directory):
    return restore_variables(directory, partition.make_mesh(jax.devices()[:1]))[0]


def last_step(workdir, run):
    """That a run has saved."""
    names = [
        path.parent.name for path in (workdir / run).glob("*/_CHECKPOINT_METADATA")
    ]
    return max((int(name) for name in names if name.isdigit()), default=0)


def wait_for(process, workdir, run, step):
    """Returns once a run has saved a step."""
    deadline = time.monotonic() + 200
    while last_step(workdir, run) < step:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop_after(process, workdir, run, step):
    """Asks a run to stop once it has saved a step: it saves another one, and ends."""
    wait_for(process, workdir, run, step)
    process.send_signal(signal.SIGTERM)
    assert "the same command resumes" in finish(process, code=75)
    saved = last_step(workdir, run)
    # Unless it came late, and found nothing left to save.
    assert saved % EPOCH or saved > step


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A workdir that nothing has interrupted."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(start(workdir, processes=1))
    return workdir


@pytest.mark.slow
def test_kills_change_no_bit(tfds_dir, tmp_path):
    output = tmp_path / "kills.json"
    result = subprocess.run(
        [sys.executable, "benchmarks/soak.py", "--kills=3", f"--output={output}"],
        cwd=ROOT,
        env={**os.environ, "TFDS_DATA_DIR": tfds_dir},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(output.read_text())
    assert found["faults"] == []
    assert found["kills"] == {"saving": 1, "evaluating": 1, "training": 1}


@pytest.mark.slow
def test_a_run_moves_between_processes_and_remains_the_same_run(start, whole, tmp_path):
    moved = tmp_path
    # One process with one device, two with four, and one again.
    stop_after(start(moved, processes=1), moved, "baseline", EPOCH)
    stop_after(start(moved, processes=2), moved, "clone", EPOCH)
    finish(start(moved, processes=1))
    for run in ("baseline", "clone"):
        one, other = records(whole, run), records(moved, run)
        assert sorted(other) == list(range(1, STEPS + 1))
        for step in one:
            assert other[step]["loss"] == pytest.approx(one[step]["loss"], rel=2e-3)
        jax.tree.map(
            # Which side of zero a unit is on magnifies rounding in single elements;
            # test_processes_train_as_one_does is close.
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-2, atol=2e-2),
            variables(whole / run),
            variables(moved / run),
        )
    rows = [json.loads((w / "results.json").read_text()) for w in (whole, moved)]
    for run in ("baseline", "clone"):
        assert rows[1][run]["nll"] == pytest.approx(rows[0][run]["nll"], rel=1e-3)


@pytest.fixture(scope="module")
def of_one_process():
    return small_run([])


def small_run(launcher):
    command = [*launcher, sys.executable, "tests/small_run.py"]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return json.loads(line)


@pytest.mark.slow
def test_processes_train_as_one_does(of_one_process):
    command = [sys.executable, "launch/local.py", "--devices=2", "--processes=2"]
    several = small_run([*command, "--"])
    assert several["devices"] == 4
    for name in ("losses", "variables", "evaluation"):
        np.testing.assert_allclose(
            several[name], of_one_process[name], rtol=1e-5, atol=1e-5
        )


def test_nothing_moving_for_too_long_shows_where_and_ends():
    program = (
        "import time; from clonalnet_jax.runtime import interruption as i;"
        "i.listen(watchdog_minutes=0.005); i.poll(); time.sleep(60)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "Timeout" in result.stderr
    assert "most recent call first" in result.stderr
