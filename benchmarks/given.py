"""What a workdir gives to those who use it, in a form that can be compared."""

import contextlib
import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from benchmarks.damages import RUNS
from clonalnet_jax.comparing.running import compare
from clonalnet_jax.report import write_report
from clonalnet_jax.trained.export import export
from clonalnet_jax.training import story
from clonalnet_jax.workdir.directory import read_results
from clonalnet_jax.workdir.saved_logits import logits_path

_PATIENCE = 180  # seconds after which a use of a workdir is called a hang
_ROW = ("top1", "top5", "nll", "ece", "num_parameters")


def make_workdir(config: ConfigDict, workdir: Path, *, comparison: bool) -> None:
    """Trains what is damaged afterwards, with an export and a report beside it."""
    with quietly():
        (compare if comparison else story.train)(config, workdir)
        write_report(workdir)
        if not comparison:
            export(config, workdir, format="safetensors")


def write_images(directory: Path) -> None:
    """Makes a folder of two images to predict."""
    directory.mkdir(exist_ok=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(256, size=(8, 8))
        image = Image.fromarray(pixels.astype(np.uint8))
        image.save(directory / f"{number}.png")


def page_of(workdir: Path) -> list[str]:
    """Reads what a report says: its page, which holds the drawings, and its table."""
    names = ("index.html", "classes.csv")
    return [(workdir / "report" / name).read_text() for name in names]


def figures_of(workdir: Path) -> tuple[dict[str, list[float]], list[bytes]]:
    """Reads what a training or an evaluation leaves, without its times."""
    results = read_results(workdir)
    rows = {run: [row[name] for name in _ROW] for run, row in results.items()}
    return rows, [logits_path(workdir, run).read_bytes() for run in RUNS]


@contextlib.contextmanager
def quietly() -> Iterator[io.StringIO]:
    """Collects what is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raises a TimeoutError in what hangs."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"a hang of {_PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
