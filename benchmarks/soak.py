"""Kills a run at random moments, again and again, and looks at what comes out.

    python benchmarks/soak.py --kills=50 -- --config=configs/digits.py \
        --config.steps=600 "--config.methods=('clone',)"

First trains once without interruption. Then starts the same run, waits until it has
begun to work and kills it a random moment later (SIGKILL), and starts it again, until
it ends or all kills are spent; a run that ends makes room for another one. Every run
that ended must hold the very parameters and predictions of the first, and no step
twice in its metrics. With --processes=2 or more, one of several processes is killed,
the rest dies with it, and figures may differ by what summing in another order does.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax import partition
from clonalnet_jax.checkpoints import restore_variables
from clonalnet_jax.predictions import read_predictions
from clonalnet_jax.quiet import quieten
from clonalnet_jax.workdir import read_results

_KILLS = flags.DEFINE_integer("kills", 50, "How many, over all runs.", 1)
_SECONDS = flags.DEFINE_float("seconds", 3.0, "A kill comes at most so long after work")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Of each run.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_TOLERANCE = flags.DEFINE_float("tolerance", 0.0, "Of parameters; 0: the same bits.")
_ROOT = Path(__file__).parent.parent


def main(argv: list[str]) -> int:
    """Kills and compares; 1 if anything was not as it should be."""
    say = Console(soft_wrap=True, highlight=False).print
    rng = random.Random(_SEED.value)
    with tempfile.TemporaryDirectory() as directory:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{directory}/compiled"}
        environment = {**os.environ, **cache}
        reference, faults = Path(directory) / "whole", []
        _finish(_start(argv[1:], reference, environment))
        kills = saving = runs = 0
        while kills < _KILLS.value:
            runs += 1
            workdir = Path(directory) / f"killed{runs}"
            while True:
                process = _start(argv[1:], workdir, environment)
                if kills == _KILLS.value:
                    _finish(process)
                    break
                _wait_for_work(process)
                if _ends_within(process, rng.uniform(0, _SECONDS.value)):
                    _finish(process)
                    break
                _kill(process)
                kills += 1
                saving += any(workdir.glob("*/*orbax-checkpoint-tmp*"))
            found = _compare(reference, workdir)
            faults += [f"run {runs}: {fault}" for fault in found]
            say(f"run {runs}: {kills} kills so far, {saving} of them while saving")
    for fault in faults:
        say(f"FAULT {fault}")
    say(f"{kills} kills tried, {kills} restarts, {runs} runs; {len(faults)} faults")
    return int(bool(faults))


def _start(
    arguments: list[str], workdir: Path, environment: dict[str, str]
) -> subprocess.Popen[str]:
    command = [sys.executable, "main.py", *arguments, f"--workdir={workdir}"]
    if _PROCESSES.value > 1:
        launcher = ["launch/local.py", f"--processes={_PROCESSES.value}", "--"]
        command = [sys.executable, *launcher, *command]
    return subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _wait_for_work(process: subprocess.Popen[str]) -> None:
    """Returns at the line that comes before the first step."""
    assert process.stdout is not None
    for line in process.stdout:
        if "training and" in line:
            return


def _ends_within(process: subprocess.Popen[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return True
        time.sleep(0.01)
    return False


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a start failed with {process.returncode}:\n{output}")


def _compare(reference: Path, workdir: Path) -> list[str]:
    """What differs."""
    mesh, faults = partition.make_mesh(jax.local_devices()[:1]), []
    for run in read_results(reference):
        pairs = [
            jax.tree.leaves(restore_variables(path / run, mesh)[0])
            for path in (reference, workdir)
        ]
        pairs = [
            [*leaves, read_predictions(path, run).logits]
            for leaves, path in zip(pairs, (reference, workdir), strict=True)
        ]
        close = all(
            np.allclose(one, other, rtol=_TOLERANCE.value, atol=_TOLERANCE.value)
            for one, other in zip(*pairs, strict=True)
        )
        if not close:
            faults.append(f"{run} is not that of the uninterrupted run")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    seen = [(row["run"], row["split"], row["step"]) for row in map(json.loads, lines)]
    if len(seen) != len(set(seen)):
        faults.append("a step is there twice in metrics.jsonl")
    return faults


if __name__ == "__main__":
    quieten()
    app.run(main)
