"""Runs a network over every example of a source, once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from clonalnet_jax.analysis.metrics import MetricSums, summarise_all
from clonalnet_jax.runtime import interruption
from clonalnet_jax.runtime.partition import keep_up

T = TypeVar("T")


def collect_logits(
    predict_step: Callable[[Any, Mapping[str, Array]], tuple[Array, Array, Array]],
    variables: Any,
    batches: Iterable[Mapping[str, Array]],
) -> tuple[Float[np.ndarray, "n classes"], Int[np.ndarray, " n"]]:
    """Runs a network over batches that hold every example exactly once.

    Args:
      predict_step: `(variables, batch) -> (logits, labels, mask)`: the jitted step of
        `steps.make_predict_step`.
      variables: The `params` and `batch_stats` of the network.
      batches: Sharded, padded batches.

    Returns:
      `logits` float32 `[n, classes]` and `labels` int32 `[n]`, without the padding.

    Raises:
      PreemptedError: The run was asked to stop.
    """
    logits, labels = [], []
    for batch in _unless_stopped(batches):
        some, theirs, mask = jax.device_get(predict_step(variables, batch))
        logits.append(some[mask > 0].astype(np.float32))
        labels.append(theirs[mask > 0].astype(np.int32))
    return np.concatenate(logits), np.concatenate(labels)


def summarise_batches(
    eval_step: Callable[[Any, Mapping[str, Array]], MetricSums],
    variables: Any,
    batches: Iterable[Mapping[str, Array]],
) -> dict[str, float]:
    """Runs a jitted eval step over batches that hold every example exactly once.

    Args:
      eval_step: The jitted step of `steps.make_eval_step`.
      variables: The `params` and `batch_stats` of the network.
      batches: Sharded, padded batches.

    Returns:
      The figures of `metrics.summarise`.

    Raises:
      PreemptedError: The run was asked to stop.
    """
    outputs = (eval_step(variables, batch) for batch in _unless_stopped(batches))
    return summarise_all(list(keep_up(outputs)))


def _unless_stopped(batches: Iterable[T]) -> Iterator[T]:
    for batch in batches:
        if interruption.poll():
            raise interruption.PreemptedError
        yield batch
