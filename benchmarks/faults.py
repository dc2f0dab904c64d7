"""Damages every file of a workdir and signals the program at random moments.

    python benchmarks/faults.py --files=200 --signals=20

Trains a small workdir once. Then takes a copy for each file and each damage (cut in
half, emptied, a bit flipped, valid JSON of another kind, removed) and evaluates it,
reports on it, exports from it and trains on, in this process. Last it starts the
program in each mode and sends SIGTERM or SIGINT after a random time.

Each must end with the same figures, with one clear message, or with the damaged
checkpoint set aside and the same figures after training on. A traceback, a hang or
other figures without a word are faults; the exit code is 1 if there are any.
"""

import collections
import contextlib
import copy
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).parent.parent))

from clonalnet_jax.configs import digits

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.quiet import quieten
from clonalnet_jax.trained.export import export
from clonalnet_jax.training import story
from clonalnet_jax.workdir.saved_logits import read_logits

ROOT = Path(__file__).parent.parent
_FILES = flags.DEFINE_integer("files", 0, "Damages to draw; 0 for all of them.")
_SIGNALS = flags.DEFINE_integer("signals", 20, "Number of starts that get a signal.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is drawn.")
_SECONDS = flags.DEFINE_float("seconds", 15.0, "No signal comes later than this.")

# Written again by whoever reads them, or by nobody read.
_NOT_READ = ("profile", "report")


def cut(path: Path) -> None:
    """Cuts a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leaves nothing in a file."""
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """Flips the lowest bit in the middle of a file: of a digit, another digit."""
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_json(path: Path) -> None:
    """Writes JSON of another kind into a file."""
    path.write_text('[{"top1": "high"}, 7]')


def remove(path: Path) -> None:
    """Removes a file."""
    path.unlink()


DAMAGES: tuple[Callable[[Path], None], ...] = (cut, empty, flip, other_json, remove)


def files_of(workdir: Path) -> list[Path]:
    """Returns every file of a workdir, relative to it, in order."""
    found = (p.relative_to(workdir) for p in workdir.rglob("*") if p.is_file())
    return sorted(p for p in found if not set(_NOT_READ) & set(p.parts))


def small_config(path: str | None = None) -> ConfigDict:
    """Returns a few steps on the digits, with two checkpoints a run."""
    config = copy.deepcopy(digits.get_config())
    config.data.path = path
    config.methods = ("clone",)
    config.steps = 12
    config.checkpoint_every_epochs = 1.0
    config.baseline.min_top1 = 0.0
    config.baseline.cache = "views"
    return config


def figures(workdir: Path) -> dict[str, float]:
    """Returns the mean of each run's logits, by which any change shows."""
    runs = ("baseline", "clone")
    return {run: float(read_logits(workdir, run).logits.mean()) for run in runs}


def try_damage(config: ConfigDict, workdir: Path, expected: dict[str, float]) -> str:
    """Uses a damaged workdir in every way and says how it went.

    Args:
      config: The config that the workdir was trained with.
      workdir: A copy of it in which a file is damaged.
      expected: What `figures` gives of the undamaged one.

    Returns:
      `same`, `refused` or `set aside`; or `FAULT` and why.
    """
    printed = io.StringIO()
    outcomes = []
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        for name, act in _actions(config, workdir):
            try:
                act()
                if name in ("evaluate", "train") and figures(workdir) != expected:
                    return f"FAULT: {name} has other figures"
                outcomes.append("same")
            except UserError:
                outcomes.append("refused")
            except Exception as error:
                return f"FAULT: {name}: {type(error).__name__}: {error}"
    if "Moved to" in printed.getvalue():
        return "set aside"
    return "refused" if "refused" in outcomes else "same"


def _actions(
    config: ConfigDict, workdir: Path
) -> Iterator[tuple[str, Callable[[], object]]]:
    # The report imports Matplotlib, which the small test can do without.
    yield "export", lambda: export(config, workdir, format="safetensors")
    yield "evaluate", lambda: story.evaluate(config, workdir)
    if "matplotlib" in sys.modules:
        from clonalnet_jax.report import write_report

        yield "report", lambda: write_report(workdir)
    yield "train", lambda: story.train(config, workdir)


def try_signal(workdir: Path, mode: str, number: int, seconds: float) -> str:
    """Starts a mode of the program, sends a signal after a time, and starts it again.

    Args:
      workdir: A workdir that may be changed.
      mode: The mode, such as `train`.
      number: The signal.
      seconds: Seconds from the start to the signal.

    Returns:
      `survived` or `FAULT` and why.
    """
    steps = "--config.steps=200" if mode == "train" else "--config.steps=12"
    command = [sys.executable, "main.py", f"--workdir={workdir}", f"--mode={mode}"]
    command += ["--config=configs/digits.py", steps, "--config.methods=('clone',)"]
    command += ["--config.baseline.min_top1=0.0", "--config.baseline.cache=views"]
    command += [f"--output={workdir / 'out'}"] if mode == "export" else []
    for again in (False, True):
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
            try:
                process.wait(300 if again else seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL if again else number)
                try:
                    process.wait(120)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return f"FAULT: {mode} hangs after {signal.Signals(number).name}"
            output.seek(0)
            text = output.read()
        good = {0} if again else {0, 75, 130, -number, 128 + number}
        if process.returncode not in good or "Traceback" in text:
            last = (text.strip().splitlines() or [""])[-1]
            when = "the next start" if again else signal.Signals(number).name
            return f"FAULT: {mode}: {when}, code {process.returncode}: {last}"
        if mode == "export" and not again:
            shutil.rmtree(workdir / "out", ignore_errors=True)
            for left in workdir.glob("out*"):
                left.unlink()
    return "survived"


def main(argv: list[str]) -> int:
    """Tries all and prints the table."""
    del argv
    import matplotlib

    matplotlib.use("agg")
    rng, table = random.Random(_SEED.value), collections.Counter[tuple[str, str]]()
    faults = []
    with tempfile.TemporaryDirectory() as directory:
        whole, config = Path(directory) / "whole", small_config()
        with contextlib.redirect_stdout(io.StringIO()):
            story.train(config, whole)
        expected = figures(whole)
        cases = [(path, damage) for path in files_of(whole) for damage in DAMAGES]
        rng.shuffle(cases)
        for path, damage in cases[: _FILES.value or None]:
            workdir = Path(directory) / "copy"
            shutil.copytree(whole, workdir)
            damage(workdir / path)
            outcome = try_damage(config, workdir, expected)
            shutil.rmtree(workdir)
            table[damage.__name__, outcome.partition(":")[0]] += 1
            if outcome.startswith("FAULT"):
                faults.append(f"{damage.__name__} {path}: {outcome}")
                print(faults[-1], flush=True)
        for index in range(_SIGNALS.value):
            mode = ("train", "evaluate", "report", "export")[index % 4]
            number = (signal.SIGTERM, signal.SIGINT)[index // 4 % 2]
            workdir = Path(directory) / f"signal{index}"
            if mode != "train":
                shutil.copytree(whole, workdir)
            seconds = rng.uniform(0, _SECONDS.value)
            outcome = try_signal(workdir, mode, number, seconds)
            kind = f"{signal.Signals(number).name} in {mode}"
            table[kind, outcome.partition(":")[0]] += 1
            if outcome.startswith("FAULT"):
                faults.append(f"after {seconds:.1f} s: {outcome}")
                print(faults[-1], flush=True)
    for (kind, outcome), count in sorted(table.items()):
        print(f"{kind:20} {outcome:10} {count:5}")
    print(f"{table.total()} tried, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    quieten()
    app.run(main)
