"""Tests whether two networks differ: over seeds, and over the images of one seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import stats

_MOST_EXACT_SEEDS = 16
_FLIPS = 100_000
FEWEST_SEEDS = 3
"""Number of seeds below which nothing is tested: two may agree by rounding alone."""


class Mean(NamedTuple):
    """A mean over seeds.

    Attributes:
      mean: The mean over the seeds.
      standard_error: None with a single seed.
    """

    mean: float
    standard_error: float | None


class Difference(NamedTuple):
    """A paired difference over seeds.

    Where it cannot be tested, everything but the mean is None: with fewer than
    `FEWEST_SEEDS` seeds, without any spread, or with a value that is not finite.

    Attributes:
      mean: The mean over the seeds.
      low: End of the 95 % interval of Student's t.
      high: Its other end.
      p_t: The p-value of the paired t-test, two-sided.
      p_sign_flip: The p-value of the sign-flip test, two-sided; exact up to 16 seeds.
      detectable: The true difference that the t-test would show in four of five such
        comparisons.
    """

    mean: float
    low: float | None
    high: float | None
    p_t: float | None
    p_sign_flip: float | None
    detectable: float | None


class McNemar(NamedTuple):
    """Images on which exactly one of two networks is right.

    Attributes:
      gained: Images on which the first alone is right.
      lost: Images on which the second alone is right.
      p: The exact two-sided probability.
    """

    gained: int
    lost: int
    p: float


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Mean and standard error of one value per seed."""
    if len(values) == 1:
        return Mean(float(values[0]), None)
    return Mean(float(np.mean(values)), float(stats.sem(values)))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compares two methods seed by seed.

    Args:
      ours: One value per seed.
      theirs: One value for each of the same seeds, in the same order.

    Returns:
      The difference `ours - theirs`.

    Raises:
      ValueError: The numbers of seeds differ.
    """
    pairs = zip(ours, theirs, strict=True)
    differences = np.array([one - other for one, other in pairs], np.float64)
    mean, count = float(differences.mean()), len(differences)
    # If the differences vary by no more than rounding, Student's t is 0/0 or absurd.
    spread, size = np.ptp(differences), np.abs(differences).max()
    spreads = np.isfinite(size) and spread > 1e-9 * size
    if count < FEWEST_SEEDS or not spreads:
        return Difference(mean, None, None, None, None, None)
    error = float(stats.sem(differences))
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    detectable = reach + float(stats.t.ppf(0.8, count - 1)) * error
    flip = _sign_flip(differences)
    return Difference(mean, mean - reach, mean + reach, p, flip, detectable)


def mcnemar(
    ours: Bool[np.ndarray, " images"], theirs: Bool[np.ndarray, " images"]
) -> McNemar:
    """McNemar's test (1947) of two networks on the same images, in its exact form.

    Args:
      ours: Whether the first is right, by image.
      theirs: Whether the second is right, by image.

    Returns:
      The counts and the p-value, 1 where the networks agree everywhere.
    """
    gained, lost = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return McNemar(gained, lost, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of several comparisons (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def _sign_flip(differences: np.ndarray) -> float:
    """Had the methods been equal, each difference could as well have the other sign."""
    if not differences.any():
        return 1.0
    if len(differences) <= _MOST_EXACT_SEEDS:
        # `stats.permutation_test` gives the same and takes 600 times as long, which a
        # comparison of many runs, references and metrics feels.
        sums = np.zeros(1)
        for difference in np.abs(differences):
            sums = np.concatenate([sums + difference, sums - difference])
        # Sums that are equal but for rounding count as equal.
        seen = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
        return float(np.mean(np.abs(sums) >= seen))
    test = stats.permutation_test(
        (differences,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_FLIPS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)
