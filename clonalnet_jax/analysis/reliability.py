"""How far a network's confidence can be trusted: reliability, risk and coverage."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from clonalnet_jax.analysis.metrics import ECE_BINS, metric_sums, summarise


class Reliability(NamedTuple):
    """A reliability diagram over 15 equal bins of confidence.

    Attributes:
      edges: Edges of the bins `[16]`, from 0 to 1; a bin is (low, high].
      images: The number in each bin `[15]`.
      confidence: Mean confidence per bin `[15]`, NaN where a bin is empty.
      accuracy: Share of correct answers per bin `[15]`, NaN where a bin is empty.
      ece: Expected calibration error in percent, that of `evaluation.summarise`.
    """

    edges: Float[np.ndarray, " edges"]
    images: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    ece: float


class RiskCoverage(NamedTuple):
    """The error among the images that a network is most sure of.

    Attributes:
      coverage: Shares of the images that are answered, `[n]`: 1/n, 2/n, ..., 1.
      risk: Share of wrong answers among them `[n]`.
      aurc: Area under the curve, the mean of `risk`; lower is better.
    """

    coverage: Float[np.ndarray, " n"]
    risk: Float[np.ndarray, " n"]
    aurc: float


def reliability(
    logits: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Reliability:
    """Accuracy by confidence (Guo et al. 2017, arXiv 1706.04599, section 2).

    Args:
      logits: `[n, classes]`, divided by a temperature or not.
      labels: Class indices `[n]`, n at least 1.

    Returns:
      The diagram, of the same bins as the reported `ece`.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    sums = metric_sums(logits, labels, jnp.ones(labels.shape))
    images = np.asarray(sums.bin_count, np.int64)
    with np.errstate(invalid="ignore"):
        confidence = np.asarray(sums.bin_confidence, np.float64) / images
        accuracy = np.asarray(sums.bin_correct, np.float64) / images
    return Reliability(
        np.linspace(0, 1, ECE_BINS + 1),
        images,
        confidence,
        accuracy,
        summarise(sums)["ece"],
    )


def risk_coverage(
    logits: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> RiskCoverage:
    """The risk-coverage curve by maximum probability (Geifman and El-Yaniv 2017).

    Source: arXiv 1705.08500, section 2; the area as in Geifman et al. 2019
    (arXiv 1805.08206). Among images of equal confidence it is the expectation over
    their order, so it does not depend on how the images are sorted.

    Args:
      logits: `[n, classes]`.
      labels: Class indices `[n]`, n at least 1.

    Returns:
      The curve and the area under it.
    """
    logits = np.asarray(logits, np.float64)
    wrong = (logits.argmax(axis=-1) != np.asarray(labels)).astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    doubt = np.exp(shifted).sum(axis=-1)  # 1 / the maximum probability
    _, group, size = np.unique(doubt, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, wrong) / size)[np.sort(group)]
    answered = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(expected) / answered
    return RiskCoverage(answered / len(wrong), risk, float(risk.mean()))
