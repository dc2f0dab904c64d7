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
      count: examples.
      top1: Examples whose label is ranked first.
      top5: Examples whose label is among the first five, or fewer classes if there are.
      nll: sum of negative log-likelihoods, nats.
      bin_count: examples per confidence bin `[15]`.
      bin_confidence: sum of the confidences per bin `[15]`.
      bin_correct: correct examples per bin `[15]`.
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
    """Sums of one batch; examples of mask 0 are padding and do not count.

    Args:
      logits: `[batch, classes]`.
      labels: class indices `[batch]`.
      mask: 1 or 0 `[batch]`.

    Returns:
      The sums, float32.
    """
    logits = logits.astype(jnp.float32)
    log_probs = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    # top_k and not "how many logits are greater": with NaN or equal logits that
    # count is 0, and a dead network would score 100 %.
    _, ranked = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    hits = (ranked == labels[:, None]) * mask[:, None]
    confidence = jnp.exp(jnp.max(log_probs, axis=-1))
    # Bins are (low, high], the last holding 1 (Guo et al. 2017, section 2).
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
      sums: over at least one example.

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
      logits: `[n, classes]`, at least one row.
      labels: class indices `[n]`.

    Returns:
      As `summarise`.
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
