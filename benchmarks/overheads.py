"""What surrounds the steps: start-up, the loop between steps, the host's memory.

    python benchmarks/overheads.py

Starts `main.py --config=configs/digits.py` (or what --config says) twice with one cache
of compiled programs, and notes when the first step is done, first with nothing in the
cache and then with all. Then trains the baseline for --steps steps in this process, and
compares the time of a step in the loop, with its logging but without evaluation and
saving, with that of the same program called again and again on one batch: 30 steps of
the one, 30 of the other, and so on, of which the median ratio counts. And compares the
memory of the process after a tenth of the steps with that at the end.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measuring import run_benchmark, with_compiled_in
from clonalnet_jax.training import loop, story

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/digits.py", lock_config=True
)
# No multiple of what configs log after, which would fall between two measurements.
_BLOCK = 30
_STEPS = flags.DEFINE_integer("steps", 1000, "Of the run that is watched.", _BLOCK)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_ROOT = Path(__file__).parent.parent


def main(argv: list[str]) -> None:
    """Measures and prints the table."""
    del argv
    given = [argument for argument in sys.argv[1:] if argument.startswith("--config")]
    given = given or ["--config=configs/digits.py"]
    with tempfile.TemporaryDirectory() as directory:
        result = {
            "start_cold_seconds": _start(given, Path(directory), "cold"),
            "start_warm_seconds": _start(given, Path(directory), "warm"),
            **_watch(_CONFIG.value, Path(directory) / "watched"),
            "device": jax.devices()[0].device_kind,
        }
    table = Table(title=f"overheads, {result['device']}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    loop, bare = result["loop_step_seconds"], result["bare_step_seconds"]
    rss = result["rss_mib"]
    for row in (
        (
            "start to first step, nothing compiled",
            f"{result['start_cold_seconds']:.1f} s",
            "",
        ),
        (
            "start to first step, all compiled",
            f"{result['start_warm_seconds']:.1f} s",
            "15 s",
        ),
        ("step in the loop", f"{1e3 * loop:.2f} ms", ""),
        ("the program alone", f"{1e3 * bare:.2f} ms", ""),
        ("idle between steps", f"{100 * result['idle']:.1f} %", "3 %"),
        (f"host memory at step {result['rss_step']}", f"{rss[0]:,.0f} MiB", ""),
        (f"host memory at step {_STEPS.value}", f"{rss[1]:,.0f} MiB", "the same"),
    ):
        table.add_row(*row)
    Console(width=90).print(table)
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _start(given: list[str], directory: Path, name: str) -> float:
    """Seconds from the start of a process to its first step."""
    metrics = directory / name / "metrics.jsonl"
    command = [sys.executable, "main.py", *given, f"--workdir={directory}/{name}"]
    command += ["--config.log_every_steps=1"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=with_compiled_in(directory / "compiled"),
        stdout=subprocess.DEVNULL,
    )
    while not (metrics.exists() and metrics.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"main.py ended with {process.returncode}")
        time.sleep(0.01)
    seconds = time.perf_counter() - begin
    process.communicate()  # to its end, so that the cache holds every program
    return seconds


def _watch(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains the baseline, now its loop and now its program alone, and looks at RSS."""
    early = _STEPS.value // 10
    config.steps, config.methods = _STEPS.value, ()
    config.checkpoint_every_epochs = 1e9
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    rss: list[float] = []
    original = loop._make_take_steps

    def make_take_steps(*arguments: Any) -> Any:
        take = original(*arguments)
        count, start = 0, 0.0

        def observed(state: Any, variables: Any, batches: Any, key: Any) -> Any:
            nonlocal count, start
            count += 1
            result = take(state, variables, batches, key)
            if count % _BLOCK == 1:
                jax.block_until_ready(result)
                start = time.perf_counter()
            elif count % _BLOCK == 0:
                jax.block_until_ready(result)
                seconds["loop"].append(time.perf_counter() - start)
                copy = jax.tree.map(jax.numpy.copy, result[0])
                copy, metrics = take(copy, variables, batches, key)
                jax.block_until_ready(metrics)
                start = time.perf_counter()
                for _ in range(_BLOCK - 1):
                    copy, metrics = take(copy, variables, batches, key)
                jax.block_until_ready(metrics)
                seconds["bare"].append(time.perf_counter() - start)
            if count in (early, _STEPS.value):
                rss.append(_rss())
            return result

        return observed

    loop._make_take_steps = make_take_steps
    try:
        story.train(config, workdir)
    finally:
        loop._make_take_steps = original
    # A slow moment of the machine hits one of a pair, here and there.
    ratios = np.divide(seconds["bare"], seconds["loop"])
    return {
        "loop_step_seconds": float(np.median(seconds["loop"])) / (_BLOCK - 1),
        "bare_step_seconds": float(np.median(seconds["bare"])) / (_BLOCK - 1),
        "idle": 1 - float(np.median(ratios)),
        "rss_mib": rss,
        "rss_step": early,
    }


def _rss() -> float:
    """MiB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


if __name__ == "__main__":
    run_benchmark(main)
