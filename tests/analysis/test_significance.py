"""The statistics against SciPy, against hand, and against luck."""

import math

import numpy as np
import pytest
from scipy import stats

from clonalnet_jax.analysis.significance import (
    holm,
    mcnemar,
    mean_over_seeds,
    paired_difference,
)


def test_a_mean_and_its_standard_error_by_hand():
    mean, error = mean_over_seeds([1.0, 2.0, 3.0])
    assert mean == pytest.approx(2.0)
    assert error == pytest.approx(1 / math.sqrt(3))


def test_one_seed_has_no_error_and_is_not_tested():
    assert mean_over_seeds([4.0]) == (4.0, None)
    assert paired_difference([4.0], [3.0]) == (1.0, *[None] * 5)


def test_a_paired_difference_equals_scipys(rng):
    ours, theirs = rng.normal(size=(2, 7))
    found = paired_difference(ours, theirs)
    test = stats.ttest_rel(ours, theirs)
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.p_t == pytest.approx(test.pvalue)
    assert found[1:3] == pytest.approx(tuple(test.confidence_interval(0.95)))


@pytest.mark.parametrize("count", [4, 8])
def test_the_detectable_difference_is_detected_in_four_of_five(count, rng):
    """By simulation: the approximation is a little too careful with few seeds."""
    noise = rng.normal(size=(4000, count))
    sizes = [paired_difference(row, np.zeros(count)).detectable for row in noise[:400]]
    true = np.sqrt(np.mean(np.square(sizes)))
    found = stats.ttest_1samp(noise + true, 0, axis=1)
    power = np.mean((found.pvalue < 0.05) & (found.statistic > 0))
    assert 0.75 < power < 0.93


def test_sign_flips_by_enumeration(rng):
    differences = rng.normal(0.7, 1.0, size=6)
    signs = 1 - 2 * ((np.arange(64)[:, None] >> np.arange(6)) & 1)
    means = np.abs((signs * differences).mean(axis=1))
    expected = np.mean(means >= abs(differences.mean()) - 1e-12)
    found = paired_difference(differences, np.zeros(6))
    assert found.p_sign_flip == pytest.approx(expected)


@pytest.mark.parametrize("size", [3, 4, 7])
def test_sign_flips_of_ties_are_those_of_scipy(rng, size):
    differences = rng.integers(-2, 4, size=size) / 10
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples"
    ).pvalue
    found = paired_difference(differences, np.zeros(size))
    assert found.p_sign_flip == pytest.approx(expected)


def test_five_wins_of_five_are_as_much_as_signs_can_say():
    found = paired_difference([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5)
    assert found.p_sign_flip == pytest.approx(2 / 32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([0.5] * 5, [0.0] * 5),
        ([0.0] * 5, [0.0] * 5),
        # Equal but for rounding: 0.07 each.
        ([97.46, 96.10, 95.03], [97.39, 96.03, 94.96]),
        ([1.0, 2.0], [0.0, 0.9]),
        ([1.0, 2.0, math.nan, 4.0], [0.0] * 4),
        ([1.0, 2.0, math.inf, 4.0], [0.0] * 4),
    ],
    ids=["equal", "zero", "rounding", "two seeds", "nan", "inf"],
)
def test_what_cannot_be_tested_has_no_p_value_and_no_interval(ours, theirs):
    with np.errstate(invalid="ignore"):
        found = paired_difference(ours, theirs)
    assert found[1:] == (None,) * 5


def test_seeds_must_be_paired():
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0, 2.0], [1.0])


def test_the_interval_holds_the_truth_95_times_in_100(rng):
    """And, where there is no difference, p is below 0.05 in 5 of 100."""
    covered, small = 0, 0
    for _ in range(400):
        shared = rng.normal(size=5)
        ours, theirs = shared + rng.normal(size=(2, 5))
        found = paired_difference(ours, theirs)
        covered += found.low <= 0 <= found.high
        small += found.p_t < 0.05
    assert 400 - covered == small
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.01


def test_mcnemar_by_hand():
    ours = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0], bool)
    theirs = np.array([0, 0, 0, 0, 0, 0, 1, 1, 0], bool)
    # 6 against 1: 2 (1 + 7) / 2^7.
    assert mcnemar(ours, theirs) == (6, 1, pytest.approx(16 / 128))
    assert mcnemar(ours, ours) == (0, 0, 1.0)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
