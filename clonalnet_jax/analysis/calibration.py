"""Temperature scaling: one number that corrects over- and underconfidence."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LOG_RANGE = (-5.0, 5.0)


def fit_temperature(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> float:
    """The temperature `T` at which `softmax(logits / T)` has the least nll.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2. The nll is convex in `1 / T`, so
    that a search along `log T` finds its one minimum.

    Args:
      logits: `[n, classes]`, of images that are not reported on.
      labels: Class indices `[n]`.

    Returns:
      `T`, from e^-5 to e^5: where every image is right, no `T` above 0 is best.

    Raises:
      ValueError: The shapes do not match, there are no images, or a logit is not
        finite.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"logits have shape {logits.shape}, labels {labels.shape}; expected "
            "[n, classes] and [n] with n above 0."
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite.")

    def nll(log_temperature: float) -> float:
        log_probs = log_softmax(logits * np.exp(-log_temperature), axis=-1)
        return -float(np.take_along_axis(log_probs, labels[:, None], axis=-1).mean())

    found = minimize_scalar(nll, bounds=_LOG_RANGE, method="bounded")
    return float(np.exp(found.x))


def cross_fit(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n classes"]:
    """Scales each half of the logits by the temperature that suits the other half.

    So no image has a say in the temperature that it is measured with.

    Args:
      logits: `[n, classes]`, at least two images.
      labels: Class indices `[n]`.

    Returns:
      The scaled logits, in the same order.

    Raises:
      ValueError: `fit_temperature` refuses them, too.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[::2], order[1::2]
    scaled = np.array(logits, np.float32)
    for fit, use in (halves, halves[::-1]):
        scaled[use] /= fit_temperature(logits[fit], labels[fit])
    return scaled
