"""Kills a run at chosen moments, again and again, and looks at what comes out.

    python benchmarks/soak.py --kills=50

First trains once without interruption. Then starts the same run, lets it go on for a
random time, and kills it (SIGKILL) as soon as a checkpoint is half written, as it
evaluates, or as it trains, in turn; and starts it again, until it ends or all kills are
spent. A run that ends makes room for another one. Every run that ended must hold the
very parameters and predictions of the first, and no step twice in its metrics.

Arguments after `--` go to main.py and say which run; a process is forked from one that
has imported everything. With --processes=2 or more, all of several processes are
killed, and figures may differ by what summing in another order does (--tolerance).
"""

import collections
import json
import multiprocessing
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import run_benchmark
from clonalnet_jax.runtime import partition
from clonalnet_jax.workdir.checkpoints import restore_variables
from clonalnet_jax.workdir.directory import read_results
from clonalnet_jax.workdir.saved_logits import read_logits

_KILLS = flags.DEFINE_integer("kills", 50, "How many, over all runs.", 1)
_SECONDS = flags.DEFINE_float(
    "seconds", 1.0, "No kill comes before a random time up to this."
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "Of each run.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_TOLERANCE = flags.DEFINE_float("tolerance", 0.0, "Of parameters; 0: the same bits.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_ROOT = Path(__file__).parent.parent
# Evaluates and saves at every third step, so that kills fall everywhere.
_RUN = (
    "--config=configs/digits.py",
    "--config.steps=24",
    "--config.methods=('clone',)",
    "--config.checkpoint_every_epochs=0.48",
    "--config.baseline.min_top1=0.0",
)
_PHASES = ("saving", "evaluating", "training")


def main(argv: list[str]) -> int:
    """Kills and compares; 1 if anything was not as it should be."""
    say = Console(soft_wrap=True, highlight=False).print
    rng = random.Random(_SEED.value)
    # Train rows only before an evaluation; see `_phase`.
    run = [*(argv[1:] or _RUN), "--config.log_every_steps=1000000"]
    phases: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as directory:
        # Before the server of forks starts: JAX reads them as it is imported.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{directory}/compiled")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        reference, faults, runs = Path(directory) / "whole", [], 0
        Run(run, reference).finish()
        while phases.total() < _KILLS.value:
            runs += 1
            workdir = Path(directory) / f"killed{runs}"
            while True:
                started = Run(run, workdir)
                if phases.total() == _KILLS.value:
                    started.finish()
                    break
                aim = _PHASES[phases.total() % len(_PHASES)]
                seconds = rng.uniform(0, _SECONDS.value)
                if not _wait_for(started, workdir, aim, seconds):
                    started.finish()
                    break
                started.kill()
                phases[aim] += 1
            found = _compare(reference, workdir)
            faults += [f"run {runs}: {fault}" for fault in found]
            say(f"run {runs}: {phases.total()} kills so far: {dict(phases)}")
    for fault in faults:
        say(f"FAULT {fault}")
    say(f"{phases.total()} kills tried, {runs} runs; {len(faults)} faults")
    if _OUTPUT.value:
        result = {"kills": dict(phases), "runs": runs, "faults": faults}
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))
    return int(bool(faults))


class Run:
    """A start of main.py.

    Attributes:
      left_over: half-written checkpoints of the start before.
    """

    def __init__(self, arguments: list[str], workdir: Path) -> None:
        """Starts it; what it prints goes to a file beside the workdir."""
        self.left_over = set(_half_written(workdir))
        self._output = workdir.with_suffix(".log")
        arguments = [*arguments, f"--workdir={workdir}"]
        if _PROCESSES.value > 1:
            launcher = f"launch/local.py --processes={_PROCESSES.value} --".split()
            arguments = [*launcher, sys.executable, "main.py", *arguments]
        else:
            arguments = ["main.py", *arguments]
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(["clonalnet_jax.modes"])
        self._process = forks.Process(target=_be, args=(arguments, str(self._output)))
        self._process.start()

    @property
    def begun(self) -> bool:
        """Whether it has printed the line that comes before the first step."""
        return self._output.exists() and "training and" in self._output.read_text()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.exitcode is not None

    def kill(self) -> None:
        """Ends it and its own processes, now."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()

    def finish(self) -> None:
        """Waits for its end, which must be a good one."""
        self._process.join()
        if self._process.exitcode:
            raise RuntimeError(
                f"a start failed with {self._process.exitcode}:\n"
                f"{self._output.read_text()}"
            )


def _be(arguments: list[str], output: str) -> None:
    """Turns this process into the program."""
    os.setpgid(0, 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(_ROOT)
    sys.argv = arguments
    # multiprocessing has imported this file, too: its flags are not the program's.
    for flag in [*flags.FLAGS.flags_by_module_dict()["__mp_main__"]]:
        delattr(flags.FLAGS, flag.name)
    runpy.run_path(arguments[0], run_name="__main__")


def _half_written(workdir: Path) -> list[Path]:
    return list(workdir.glob("*/*orbax-checkpoint-tmp*"))


def _phase(workdir: Path, left_over: set[Path]) -> str:
    if set(_half_written(workdir)) - left_over:
        return "saving"
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    if lines and '"split": "train"' in lines[-1]:
        return "evaluating"
    return "training"


def _wait_for(started: Run, workdir: Path, aim: str, seconds: float) -> bool:
    """Returns in a phase, so late after the beginning or later; False at its end."""
    moment = None
    while not started.ended:
        if moment is None and started.begun:
            moment = time.monotonic() + seconds
        late = moment is not None and time.monotonic() > moment
        if late and _phase(workdir, started.left_over) == aim:
            return True
        time.sleep(0.001)
    return False


def _compare(reference: Path, workdir: Path) -> list[str]:
    """What differs."""
    mesh, faults = partition.make_mesh(jax.local_devices()[:1]), []
    for run in read_results(reference):
        pairs = [
            jax.tree.leaves(restore_variables(path / run, mesh)[0])
            for path in (reference, workdir)
        ]
        pairs = [
            [*leaves, read_logits(path, run).logits]
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
    run_benchmark(main)
