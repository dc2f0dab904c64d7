"""The figures of one seed, in a small file: what a comparison needs of it.

So seeds may be trained by different machines at different times, and only these files
be brought together; see `gathering`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from clonalnet_jax.analysis.calibration import cross_fit, fit_temperature
from clonalnet_jax.analysis.metrics import measure_logits
from clonalnet_jax.errors import UserError
from clonalnet_jax.training.baseline import is_given
from clonalnet_jax.workdir.files import read_json, wrong_file
from clonalnet_jax.workdir.saved_config import resolve
from clonalnet_jax.workdir.saved_logits import SavedLogits, read_logits
from clonalnet_jax.workdir.sealed import write_sealed

SEED_FILE = "seed_figures.json"
METRICS = {
    "top1": ("top-1 %", 2),
    "top5": ("top-5 %", 2),
    "nll": ("nll", 3),
    "nll_scaled": ("nll, scaled", 3),
    "ece": ("ece %", 1),
    "ece_scaled": ("ece %, scaled", 1),
}
"""The metrics of a comparison: heading and decimals, by name."""
_REMEDY = "bring it again, or make it again: --mode=compare writes it into each seed"


class SeedFigures(NamedTuple):
    """What one seed has shown.

    Attributes:
      seed: The seed.
      config: Its resolved config, as JSON has it.
      labels: Digest of the test split's labels, in order.
      metrics: The value of each metric of a comparison, by run.
      right: Whether each test image is classified correctly, bool `[n]`, by run.
    """

    seed: int
    config: dict[str, Any]
    labels: str
    metrics: dict[str, dict[str, float]]
    right: dict[str, np.ndarray]

    @property
    def test_images(self) -> int:
        """Number of test images."""
        return len(self.right["baseline"])


def measure_seed(config: ConfigDict, seed: int, directory: Path) -> SeedFigures:
    """Computes the figures of a seed from its runs' predictions.

    Args:
      config: The whole config; its `compare.methods` are measured.
      seed: The seed.
      directory: Its workdir.

    Returns:
      The figures.

    Raises:
      UserError: A file is missing or damaged, or its runs' test splits differ.
    """
    metrics, right = dict[str, dict[str, float]](), dict[str, np.ndarray]()
    first: np.ndarray | None = None
    for run in ("baseline", *config.compare.methods):
        predictions = read_logits(directory, run)
        first = predictions.labels if first is None else first
        if not np.array_equal(first, predictions.labels):
            raise other_images(
                f"predictions of {run} in {directory}",
                len(predictions.labels),
                len(first),
            )
        right[run] = predictions.logits.argmax(-1) == predictions.labels
        if run == "baseline" and is_given(config):
            predictions = predictions.without_holdout()
        metrics[run] = _measure(predictions)
    assert first is not None
    resolved = json.loads(config.to_json_best_effort())
    digest = hashlib.sha256(np.ascontiguousarray(first, "<i4").tobytes()).hexdigest()
    return SeedFigures(seed, {**resolved, "seed": seed}, digest, metrics, right)


def measure_seeds(
    config: ConfigDict, seeds: Sequence[int], directories: Sequence[Path]
) -> list[SeedFigures]:
    """Computes the figures of several seeds; see `measure_seed`.

    Args:
      config: The whole config.
      seeds: The seeds, in order.
      directories: The workdir of each.

    Returns:
      The figures of each.

    Raises:
      UserError: As for one seed, or the seeds' test splits differ.
    """
    pairs = zip(seeds, directories, strict=True)
    found = [measure_seed(config, seed, directory) for seed, directory in pairs]
    for one, directory in zip(found, directories, strict=True):
        if one.labels != found[0].labels:
            what = f"predictions in {directory}"
            raise other_images(what, one.test_images, found[0].test_images)
    return found


def write_seed(figures: SeedFigures, directory: Path) -> None:
    """Writes the figures of a seed into its workdir."""
    content = {
        **figures._asdict(),
        "test_images": figures.test_images,
        "right": {
            run: base64.b64encode(np.packbits(images).tobytes()).decode()
            for run, images in figures.right.items()
        },
    }
    write_sealed(directory, SEED_FILE, json.dumps(content, indent=1))


def read_seed(path: Path) -> SeedFigures:
    """Reads the figures of a seed.

    Args:
      path: The file.

    Returns:
      The figures.

    Raises:
      UserError: It is no such file, or not whole.
    """
    content = read_json(path, None, remedy=_REMEDY)
    if content is None:
        raise wrong_file(path, "no such file", remedy=_REMEDY)
    try:
        count = content.pop("test_images")
        right = {
            run: np.unpackbits(
                np.frombuffer(base64.b64decode(packed, validate=True), np.uint8),
                count=count,
            ).astype(bool)
            for run, packed in content.pop("right").items()
        }
        figures = SeedFigures(**content, right=right)
        resolve(figures.config)  # which refuses keys of another version
        if not isinstance(figures.seed, int):
            raise TypeError(f"the seed is {figures.seed!r}")
        for run, metrics in figures.metrics.items():
            if tuple(metrics) != tuple(METRICS) or len(right[run]) != count:
                raise ValueError(f"figures of {run} are missing")
            # What is saved twice must be the same: a slip of a finger is found.
            if not np.isclose(100 * right[run].mean(), metrics["top1"], atol=1e-3):
                raise ValueError(f"top1 of {run} is not that of its images")
        if figures.metrics.keys() != right.keys() or "baseline" not in right:
            raise ValueError("figures of a run are missing")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise wrong_file(path, got, remedy=_REMEDY) from error
    return figures


def other_images(culprit: str, found: int, expected: int) -> UserError:
    """Makes the error about runs whose test images differ."""
    return UserError(
        culprit,
        got=f"{found} images with labels of their own",
        expected=f"the {expected} test images of the first seed",
        remedy="compare runs on one test split, all of whose images can be read",
    )


def _measure(predictions: SavedLogits) -> dict[str, float]:
    logits, labels = predictions.logits, predictions.labels
    held_out, their_labels = predictions.holdout_logits, predictions.holdout_labels
    if held_out is not None and their_labels is not None:
        scaled = logits / fit_temperature(held_out, their_labels)
    else:
        scaled = cross_fit(logits, labels)
    before = measure_logits(logits, labels)
    after = measure_logits(scaled.astype(np.float32), labels)
    found = {**before, "nll_scaled": after["nll"], "ece_scaled": after["ece"]}
    return {name: float(found[name]) for name in METRICS}
