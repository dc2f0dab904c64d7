"""Metrics that are sums, so that they merge exactly over batches and devices."""

from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

T = TypeVar("T")
ECE_BINS = 15
_ROWS = 8192


@flax.struct.dataclass
class MetricSums:
    """Sums over examples; `+` merges two of them.

    Attributes:
      count: Number of examples.
      top1: Examples whose label is ranked first.
      top5: Examples whose label is among the first five, or fewer classes if there are.
      nll: Sum of the negative log-likelihoods, in nats.
      bin_count: Number of examples in each bin of confidence, `[15]`.
      bin_confidence: Sum of the confidences in each bin, `[15]`.
      bin_correct: Number of correct examples in each bin, `[15]`.
    """

    count: Array
    top1: Array
    top5: Array
    nll: Array
    bin_count: Array
    bin_confidence: Array
    bin_correct: Array

    def __add__(self, other: "MetricSums") -> "MetricSums":
        """Merges two disjoint sets of examples."""
        return jax.tree.map(lambda x, y: x + y, self, other)


def metric_sums(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    mask: Float[Array, " batch"],
) -> MetricSums:
    """Computes the sums of one batch, without the examples that are padding.

    Args:
      logits: The logits, `[batch, classes]`.
      labels: Indices of the classes, `[batch]`.
      mask: 1 for an example and 0 for padding, `[batch]`.

    Returns:
      The sums, float32.
    """
    logits = logits.astype(jnp.float32)
    log_probs = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    # The logits are ranked, because no logit is greater than the label's if all are NaN
    # or equal: by such a count, a dead network would score 100 %.
    _, ranked = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    hits = (ranked == labels[:, None]) * mask[:, None]
    confidence = jnp.exp(jnp.max(log_probs, axis=-1))
    # Bins are (low, high], so that the last one holds 1 (Guo et al. 2017, section 2).
    index = jnp.clip(jnp.ceil(confidence * ECE_BINS) - 1, 0, ECE_BINS - 1)
    one_hot = jax.nn.one_hot(index.astype(jnp.int32), ECE_BINS) * mask[:, None]
    return MetricSums(
        count=jnp.sum(mask),
        top1=jnp.sum(hits[:, 0]),
        top5=jnp.sum(hits),
        nll=jnp.sum(jnp.where(mask > 0, nll, 0.0)),
        bin_count=jnp.sum(one_hot, axis=0),
        bin_confidence=jnp.sum(confidence[:, None] * one_hot, axis=0),
        bin_correct=jnp.sum(hits[:, :1] * one_hot, axis=0),
    )


def summarise(sums: MetricSums) -> dict[str, float]:
    """Turns sums into what is reported.

    Args:
      sums: The sums over at least one example.

    Returns:
      `top1` and `top5` in percent, `nll` in nats, `ece` in percent: the expected
      calibration error over 15 equal bins of confidence (Guo et al. 2017, eq. 3).
    """
    gap = np.abs(np.asarray(sums.bin_correct) - np.asarray(sums.bin_confidence))
    return {
        "top1": 100.0 * float(sums.top1 / sums.count),
        "top5": 100.0 * float(sums.top5 / sums.count),
        "nll": float(sums.nll / sums.count),
        "ece": 100.0 * float(gap.sum() / sums.count),
    }


def measure_logits(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Summarises logits on the host.

    Args:
      logits: The logits, `[n, classes]`, of at least one example.
      labels: Indices of the classes, `[n]`.

    Returns:
      The figures of `summarise`.
    """
    sums = [
        _unmasked_sums(logits[i : i + _ROWS], labels[i : i + _ROWS])
        for i in range(0, len(labels), _ROWS)
    ]
    return summarise_all(sums)


@jax.jit
def _unmasked_sums(logits: Array, labels: Array) -> MetricSums:
    return metric_sums(logits, labels, jnp.ones(labels.shape))


def summarise_all(sums: list[MetricSums]) -> dict[str, float]:
    """Adds the sums of batches and summarises them."""
    # Added in float64 on the host: float32 sums stop counting at 2^24 examples.
    host = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(sums))
    return summarise(jax.tree.map(lambda *xs: np.sum(xs, axis=0), *host))
