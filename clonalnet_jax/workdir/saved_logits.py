"""The logits of a finished run on the data it is judged by, in a small file beside it.

`<workdir>/predictions/<run>.safetensors` holds `logits` float32 `[n, classes]` and
`labels` int32 `[n]` of the test split, in its order, and `holdout_logits` and
`holdout_labels` where training images were held out.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy
from jaxtyping import Float, Int
from safetensors import SafetensorError

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.processes import wait_for_all
from clonalnet_jax.workdir.sealed import is_sealed, write_sealed


class SavedLogits(NamedTuple):
    """Logits and labels, without the padding of the batches.

    Attributes:
      logits: Logits on the test split, float32 `[n, classes]`.
      labels: Labels of the test split, int32 `[n]`.
      holdout_logits: Logits on the images that were held out, float32 `[m, classes]`;
        None where none were.
      holdout_labels: Labels of the images that were held out, int32 `[m]`, or None.
    """

    logits: Float[np.ndarray, "n classes"]
    labels: Int[np.ndarray, " n"]
    holdout_logits: Float[np.ndarray, "m classes"] | None = None
    holdout_labels: Int[np.ndarray, " m"] | None = None

    def without_holdout(self) -> "SavedLogits":
        """The test split alone, for a network that may have seen what is held out."""
        return self._replace(holdout_logits=None, holdout_labels=None)


def logits_path(workdir: Path, run: str) -> Path:
    """Returns where the predictions of a run lie."""
    return workdir / _name(run)


def write_logits(workdir: Path, run: str, predictions: SavedLogits) -> None:
    """Replaces the file of a run, on process 0; all see it from then on."""
    path = logits_path(workdir, run)
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {k: v for k, v in predictions._asdict().items() if v is not None}
        write_sealed(workdir, _name(run), safetensors.numpy.save(tensors))
    wait_for_all(str(path))


def read_logits(workdir: Path, run: str) -> SavedLogits:
    """Reads the file of a run.

    Args:
      workdir: The workdir of a `train`.
      run: Name of the run, such as `clone`.

    Returns:
      The logits and labels that `write_logits` was given.

    Raises:
      UserError: There is no such file, or it is damaged.
    """
    path = logits_path(workdir, run)
    try:
        content = path.read_bytes()
        found = SavedLogits(**safetensors.numpy.load(content))
        _check_shapes(found)
    except (FileNotFoundError, SafetensorError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not is_sealed(workdir, _name(run), content):
        raise _damaged(path, "other bytes than were written")
    return found


def are_logits_whole(workdir: Path, run: str) -> bool:
    """Tells whether the predictions of a run are there and as they were written."""
    try:
        read_logits(workdir, run)
    except UserError:
        return False
    return True


def _check_shapes(found: SavedLogits) -> None:
    pairs = [found[:2], *([found[2:]] if any(x is not None for x in found[2:]) else [])]
    for logits, labels in pairs:
        if logits is None or labels is None:
            raise ValueError("logits without labels, or labels without logits")
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(f"logits {logits.shape} and labels {labels.shape}")
        if logits.dtype != np.float32 or labels.dtype != np.int32:
            raise ValueError(f"logits {logits.dtype} and labels {labels.dtype}")


def _name(run: str) -> str:
    return f"predictions/{run}.safetensors"


def _damaged(path: Path, got: str) -> UserError:
    return UserError(
        str(path),
        got=got,
        expected="the predictions of a finished run",
        remedy="start --mode=train again: it is made anew from the checkpoint",
    )
