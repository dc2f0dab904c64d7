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
from clonalnet_jax.workdir.directory import write_atomically


class SavedLogits(NamedTuple):
    """Logits and labels, without the padding of the batches.

    Attributes:
      logits: float32 `[n, classes]` of the test split.
      labels: int32 `[n]`.
      holdout_logits: float32 `[m, classes]`; None where nothing is held out.
      holdout_labels: int32 `[m]`; likewise.
    """

    logits: Float[np.ndarray, "n classes"]
    labels: Int[np.ndarray, " n"]
    holdout_logits: Float[np.ndarray, "m classes"] | None = None
    holdout_labels: Int[np.ndarray, " m"] | None = None


def logits_path(workdir: Path, run: str) -> Path:
    """Where the predictions of a run lie."""
    return workdir / "predictions" / f"{run}.safetensors"


def write_logits(workdir: Path, run: str, predictions: SavedLogits) -> None:
    """Replaces the file of a run, on process 0; all see it from then on."""
    path = logits_path(workdir, run)
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {k: v for k, v in predictions._asdict().items() if v is not None}
        write_atomically(path, safetensors.numpy.save(tensors))
    wait_for_all(str(path))


def read_logits(workdir: Path, run: str) -> SavedLogits:
    """Reads the file of a run.

    Args:
      workdir: of a `train`.
      run: such as `clone`.

    Returns:
      What `write_logits` was given.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    path = logits_path(workdir, run)
    try:
        return SavedLogits(**safetensors.numpy.load_file(path))
    except (FileNotFoundError, SafetensorError, TypeError) as error:
        raise UserError(
            str(path),
            got=str(error),
            expected="the predictions of a finished run",
            remedy="delete it, if it is there, and start again: it is made from the "
            "checkpoint",
        ) from error
