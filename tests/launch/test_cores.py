"""Seeds on cores of their own: what each process is given, and how all of them end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORES = [sys.executable, ROOT / "launch" / "cores.py"]
# In place of main.py: writes down what it was given, in the last workdir.
PROGRAM = """
import json, os, pathlib, sys, time
workdir = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
workdir.mkdir(exist_ok=True)
given = {"argv": sys.argv[1:], "cores": sorted(os.sched_getaffinity(0))}
(workdir / "given.json").write_text(json.dumps({**given, "env": dict(os.environ)}))
"""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no cores can be given here"
)


def command(workdir, more="", seeds=3):
    program = [sys.executable, "-c", PROGRAM + more]
    return [*CORES, f"--seeds={seeds}", "--", *program, "--x", f"--workdir={workdir}"]


def given(workdir):
    return json.loads((workdir / "given.json").read_text())


def test_each_seed_has_a_core_and_all_are_gathered(tmp_path):
    ran = subprocess.run(command(tmp_path), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    usable = os.sched_getaffinity(0)
    for seed in range(3):
        task = tmp_path / f"task{seed}"
        of_seed = given(task)
        own = [f"--config.seed={seed}", "--config.compare.seeds=1", f"--workdir={task}"]
        assert of_seed["argv"] == ["--x", f"--workdir={tmp_path}", *own]
        assert len(of_seed["cores"]) == 1
        assert set(of_seed["cores"]) <= usable
        assert of_seed["env"]["JAX_PLATFORMS"] == "cpu"
        assert of_seed["env"]["MALLOC_ARENA_MAX"] == "1"
        assert f"seed {seed}: done" in ran.stdout
    tasks = [str(tmp_path / f"task{seed}") for seed in range(3)]
    gathered = ["--mode=gather", *tasks, f"--workdir={tmp_path}"]
    assert given(tmp_path)["argv"] == gathered
    assert set(given(tmp_path)["cores"]) == usable


def test_a_seed_that_fails_is_named_and_nothing_is_gathered(tmp_path):
    failing = "sys.exit(3 if 'seed=1' in str(sys.argv) else 0)"
    ran = subprocess.run(command(tmp_path, failing), capture_output=True, text=True)
    assert ran.returncode == 3
    assert f"seed 1: ended with 3, see {tmp_path}/task1.log" in ran.stdout
    assert "seed 2: done" in ran.stdout
    assert not (tmp_path / "given.json").exists()


def test_a_stop_is_passed_on_and_starts_no_more(tmp_path):
    stopping = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""
    many = len(os.sched_getaffinity(0)) + 1
    with subprocess.Popen(
        command(tmp_path, stopping, seeds=many), stdout=subprocess.PIPE, text=True
    ) as process:
        logs = [tmp_path / f"task{seed}.log" for seed in range(many - 1)]
        while not all(log.exists() and log.read_text() for log in logs):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 75
    assert "seed 0: ended with 75" in output
    assert not (tmp_path / f"task{many - 1}").exists()


def test_without_a_workdir_it_says_so(tmp_path):
    arguments = [*CORES, "--seeds=1", "--", sys.executable, "main.py"]
    ran = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert "the command has no --workdir=DIRECTORY" in ran.stderr
