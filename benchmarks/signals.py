"""The program in each mode, sent SIGTERM or SIGINT after a random time, and resumed."""

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.numpy

from benchmarks.damages import DAMAGES, RUNS, SETTINGS
from benchmarks.given import figures_of, page_of, write_images
from benchmarks.uses import Outcome
from clonalnet_jax.workdir.saved_logits import logits_path

MODES = ("train", "fill the cache", "evaluate", "report", "export", "predict")
_ROOT = Path(__file__).parent.parent
# So many steps that signals fall into training and between its checkpoints, too.
_LONGER = {"steps": 300, "checkpoint_every_epochs": 25.0, "log_every_steps": 50}
_PATIENCE = 180  # seconds after which a start is called a hang
_SAYS = {75: "Stopped as asked; the same command resumes.", 130: "ERROR: Interrupted;"}


class Ended(NamedTuple):
    """How a start of the program ended.

    Attributes:
      code: Its exit code; None where it was still running after the time.
      text: What it printed.
      gave: What it was asked for: figures, a page, tensors or predictions.
      seconds: How long it took.
    """

    code: int | None
    text: str
    gave: Any
    seconds: float


class Program:
    """Starts of the program in a workdir that may be changed, beside a whole one.

    Attributes:
      whole: The whole workdir.
      workdir: The one that may be changed.
    """

    def __init__(self, directory: Path) -> None:
        """Trains the whole workdir in a directory, where it is not there."""
        directory.mkdir(parents=True, exist_ok=True)
        self.whole, self.workdir = directory / "whole", directory / "copy"
        self._output = directory / "exported.safetensors"
        write_images(directory / "images")
        self._images = directory / "images"
        if not self.whole.exists():
            shutil.rmtree(self.workdir, ignore_errors=True)
            ended = self.start("train")
            assert ended.code == 0, ended.text
            self.workdir.rename(self.whole)

    def prepare(self, mode: str) -> None:
        """Makes a workdir in which a mode has all of its work to do.

        Args:
          mode: One of `MODES`.
        """
        shutil.rmtree(self.workdir, ignore_errors=True)
        for path in self._output.parent.glob("exported*"):
            path.unlink()
        shutil.copytree(self.whole, self.workdir)
        if mode in ("train", "fill the cache"):
            runs = RUNS if mode == "train" else RUNS[1:]
            for name in (*runs, "baseline_cache"):
                shutil.rmtree(self.workdir / name)
            for run in runs:
                logits_path(self.workdir, run).unlink()

    def start(self, mode: str, number: int = 0, seconds: float = _PATIENCE) -> Ended:
        """Starts the program and waits for its end.

        Args:
          mode: One of `MODES`.
          number: The signal to send; 0 for none.
          seconds: The time from the start to the signal. Of the mode that fills the
            cache it begins as that does.

        Returns:
          How it ended.
        """
        begun, log = time.monotonic(), self.workdir.with_name("output.txt")
        with log.open("w") as output:
            process = subprocess.Popen(
                self._command(mode),
                cwd=_ROOT,
                env=_environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if number and mode == "fill the cache":
            while process.poll() is None and "computing" not in log.read_text():
                time.sleep(0.005)
        code = _wait(process, seconds)
        if code is None:
            process.send_signal(number or signal.SIGKILL)
            code = _wait(process, _PATIENCE)
        if code is None:
            process.kill()
            process.wait()
        text, took = log.read_text(), time.monotonic() - begun
        return Ended(code, text, self._given(mode, text) if code == 0 else None, took)

    def _command(self, mode: str) -> list[str]:
        flag = "train" if mode == "fill the cache" else mode
        command = [sys.executable, "main.py", f"--workdir={self.workdir}"]
        command += [f"--mode={flag}"]
        if flag == "train":
            settings = SETTINGS | _LONGER
            command += ["--config=configs/default.py"]
            command += [f"--config.{key}={value}" for key, value in settings.items()]
        if mode == "export":
            command += [f"--output={self._output}"]
        if mode == "predict":
            command += ["--format=json", str(self._images)]
        return command

    def _given(self, mode: str, text: str) -> Any:
        if mode == "predict":
            return [line for line in text.splitlines() if line.startswith("{")]
        if mode == "report":
            return page_of(self.workdir)
        if mode == "export":
            tensors = safetensors.numpy.load_file(self._output)
            return {name: array.tobytes() for name, array in tensors.items()}
        return figures_of(self.workdir)


def send_all(program: Program, path: Path, *, tries: int, seed: int) -> int:
    """Sends signals to starts of every mode in turn, and prints a table.

    Args:
      program: The program and its whole workdir.
      path: The file of what was tried.
      tries: The number of starts that get a signal.
      seed: The seed of the moments.

    Returns:
      The number of faults.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    record = {int(row[0]): tuple(row[1:]) for row in map(json.loads, lines)}
    whole: dict[str, Ended] = {}
    for index in range(tries):
        mode, number = _drawn(index)
        if index in record and not record[index][2].startswith("FAULT"):
            continue
        if mode not in whole:
            program.prepare(mode)
            whole[mode] = program.start(mode)
        part = random.Random(f"{seed} {index}").random()
        seconds = part * (1.0 if mode == "fill the cache" else whole[mode].seconds)
        program.prepare(mode)
        outcome = _send(program, mode, number, seconds, whole[mode])
        record[index] = (mode, number.name, outcome)
        with path.open("a") as file:
            file.write(json.dumps([index, *record[index], seconds]) + "\n")
        if outcome.startswith("FAULT"):
            print(f"{number.name} in {mode} after {seconds:.2f} s: {outcome}")
    print(tabulate(record))
    return sum(outcome.startswith("FAULT") for *_, outcome in record.values())


def _drawn(index: int) -> tuple[str, signal.Signals]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    return MODES[index % len(MODES)], numbers[index // len(MODES) % 2]


def _send(
    program: Program, mode: str, number: signal.Signals, seconds: float, whole: Ended
) -> str:
    """Starts with a signal and again without: `stopped`, `ended` or a fault."""
    if whole.code != 0:
        return f"FAULT: undisturbed, code {whole.code}: {_last(whole.text)}"
    first = program.start(mode, number, seconds)
    if first.code is None:
        return "FAULT: a hang"
    if "Traceback" in first.text or first.text.count("ERROR") > 1:
        return f"FAULT: code {first.code}: {first.text[-2000:]}"
    if first.code not in (0, 75, 130, -signal.SIGTERM):
        return f"FAULT: code {first.code}: {_last(first.text)}"
    if _SAYS.get(first.code, "") not in first.text:
        return f"FAULT: code {first.code} without a word"
    if mode == "export" and first.code == 0:
        return "ended" if first.gave == whole.gave else "FAULT: another export"
    again = program.start(mode)
    if again.code != 0 or "Traceback" in again.text:
        return f"FAULT: the next start, code {again.code}: {again.text[-2000:]}"
    if again.gave != whole.gave:
        return "FAULT: the next start gives something else"
    # What a shell says of a process that a signal ended.
    code = first.code if first.code >= 0 else 128 - first.code
    return "ended" if code == 0 else f"stopped with {code}"


def start_with_damaged_programs(program: Program, damage: str) -> Outcome:
    """Damages all compiled programs of a workdir at once, and trains in it.

    Each is read on its own, in place of compiling one: what all of them cannot do,
    none can.

    Args:
      program: The program and its whole workdir.
      damage: A name of `DAMAGES`.

    Returns:
      How it went.
    """
    program.prepare("train")
    for path in (program.workdir / "compiled").iterdir():
        DAMAGES[damage](path)
    ended = program.start("train")
    if ended.code != 0 or "Traceback" in ended.text:
        return Outcome("FAULT", f"code {ended.code}: {ended.text[-2000:]}")
    if ended.gave != figures_of(program.whole):
        return Outcome("FAULT", "other figures")
    return Outcome("told" if "WARNING" in ended.text else "same")


def tabulate(record: Mapping[int, tuple[str, ...]]) -> str:
    """Makes a Markdown table: a row a mode, a column a signal."""
    cells: dict[tuple[str, str], collections.Counter[str]]
    cells = collections.defaultdict(collections.Counter)
    for mode, name, outcome in record.values():
        for row in (mode, "all"):
            cells[row, name][outcome.partition(":")[0]] += 1
    lines = ["| signal in | SIGTERM | SIGINT |", "|---|---|---|"]
    for mode in (*MODES, "all"):
        texts = []
        for name in ("SIGTERM", "SIGINT"):
            found = sorted(cells[mode, name].items())
            texts.append(", ".join(f"{count} {word}" for word, count in found))
        lines.append(f"| {' | '.join([mode, *texts])} |")
    return "\n".join(lines)


def _environment() -> dict[str, str]:
    """This process's, but that compiled programs are kept in the workdir."""
    return {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
