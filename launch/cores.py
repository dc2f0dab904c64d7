"""A comparison without an accelerator: each seed on a core of its own, then the table.

    python launch/cores.py --seeds=10 -- \
        python main.py --mode=compare --config=configs/digits.py --workdir=runs/compared

A small network cannot keep several cores busy, so that seeds beside one another are
done sooner than one after the other. Each has a workdir below the given one and a log
beside that; the same command resumes. SIGTERM and SIGINT are passed on, and start no
more seeds. Ends with the first code that is not 0. For Linux.
"""

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Every call of a program allocates its temporary arrays. glibc gives ones as large as
# those back at once, so that Linux clears their pages again in every step. It can keep
# what all threads take from one arena, for which those of a single core do not queue.
_KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


class _Job(NamedTuple):
    seed: int
    process: subprocess.Popen[bytes]
    log: Path
    start: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, required=True, help="how many")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity"):
        parser.error("a process is given a core on Linux only")
    # The last one counts, as for main.py.
    *_, given = ["", *re.findall(r"--workdir=(.*)", "\n".join(options.command))]
    if not given:
        parser.error("the command has no --workdir=DIRECTORY")
    workdir = Path(given).expanduser()
    workdir.mkdir(parents=True, exist_ok=True)
    seeds = range(options.first, options.first + options.seeds)
    code = launch(options.command, seeds, workdir)
    if code:
        return code
    program = itertools.takewhile(lambda x: not x.startswith("--"), options.command)
    tasks = [str(_task(workdir, seed)) for seed in seeds]
    gather = [*program, "--mode=gather", *tasks, f"--workdir={workdir}"]
    return subprocess.run(gather).returncode


def launch(command: Sequence[str], seeds: Sequence[int], workdir: Path) -> int:
    """Trains every seed, as many at once as this process may use cores.

    Args:
      command: What trains one, but for its seed and workdir.
      seeds: The seeds.
      workdir: Directory of their workdirs and logs.

    Returns:
      0, or the first other exit code; that of a signal is 128 and its number.
    """
    cores = os.sched_getaffinity(0)
    waiting, free, running = list(seeds), sorted(cores), dict[int, _Job]()
    asked: list[int] = []
    first = 0

    def pass_on(number: int, frame: types.FrameType | None) -> None:
        del frame
        asked.append(number)
        for job in running.values():
            job.process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while running or (waiting and not asked):
        while waiting and free and not asked:
            core, seed = free.pop(0), waiting.pop(0)
            # A process inherits the cores of the one that starts it.
            os.sched_setaffinity(0, {core})
            try:
                running[core] = _start(command, seed, workdir)
            finally:
                os.sched_setaffinity(0, cores)
            if asked:  # while it was started
                running[core].process.send_signal(asked[-1])
            print(f"seed {seed}: core {core}, {running[core].log}", flush=True)
        time.sleep(0.1)
        for core, job in list(running.items()):
            if (code := job.process.poll()) is None:
                continue
            del running[core]
            free.append(core)
            code = code if code >= 0 else 128 - code
            first = first or code
            how = f"ended with {code}, see {job.log}," if code else "done"
            seconds = time.monotonic() - job.start
            print(f"seed {job.seed}: {how} after {seconds:.0f} s", flush=True)
    return first or (128 + asked[-1] if waiting else 0)


def _task(workdir: Path, seed: int) -> Path:
    return workdir / f"task{seed}"


def _start(command: Sequence[str], seed: int, workdir: Path) -> _Job:
    own = [f"--config.seed={seed}", "--config.compare.seeds=1"]
    task = _task(workdir, seed)
    log = task.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *own, f"--workdir={task}"],
            env={**_KEEP_MEMORY, **os.environ, "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A Ctrl-C reaches it by `pass_on` alone, and once.
            start_new_session=True,
        )
    return _Job(seed, process, log, time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
