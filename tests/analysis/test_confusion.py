"""Confusion statistics: counts that add up, and groups that are known."""

import hypothesis.extra.numpy as st_numpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax import losses
from clonalnet_jax.analysis import confusion

CLASSES = 5


@st.composite
def two_networks(draw):
    """Logits of a baseline and a clone, and labels."""
    count = draw(st.sampled_from((1, 7, 20)))  # few shapes to compile for
    # XLA takes subnormal numbers for 0, and NumPy finds the greatest of them.
    values = st.floats(-8, 8, width=32, allow_subnormal=False)
    logits = st_numpy.arrays(np.float32, (count, CLASSES), elements=values)
    labels = st_numpy.arrays(np.int32, count, elements=st.integers(0, CLASSES - 1))
    return draw(logits), draw(logits), draw(labels)


def answers(true, given):
    """Logits whose arg-max is what is given, far from everything else."""
    return np.eye(CLASSES, dtype=np.float32)[given] * 20, np.asarray(true)


@given(two_networks())
@settings(max_examples=20, deadline=None)
def test_counts_add_up(case):
    baseline, clone, labels = case
    counted = confusion.count_confusion(baseline, clone, labels)
    np.testing.assert_array_equal(
        counted.support, np.bincount(labels, minlength=CLASSES)
    )
    for matrix, logits in ((counted.baseline, baseline), (counted.clone, clone)):
        np.testing.assert_array_equal(matrix.sum(axis=1), counted.support)
        assert np.trace(matrix) == (logits.argmax(-1) == labels).sum()
    # What is answered wrongly had the greatest logit: unless all logits are equal
    # (to rounding), it is above average and so in the confusing set.
    clear = np.ptp(baseline, axis=1) > 1e-3
    sure = confusion.count_confusion(baseline[clear], clone[clear], labels[clear])
    assert (sure.baseline <= sure.confusing).all()


@given(two_networks(), st.floats(0.5, 5))
@settings(max_examples=20, deadline=None)
def test_confusing_counts_are_those_of_the_loss(case, temperature):
    baseline, clone, labels = case
    counted = confusion.count_confusion(
        baseline, clone, labels, temperature=temperature
    )
    expected = np.zeros((CLASSES, CLASSES), int)
    sets = losses.confusing_categories(baseline, labels, temperature=temperature)
    for label, members in zip(labels, np.asarray(sets), strict=True):
        expected[label] += members
    np.testing.assert_array_equal(counted.confusing, expected)


@given(two_networks())
@settings(max_examples=20, deadline=None)
def test_gains_weighted_by_class_are_the_gain_in_accuracy(case):
    baseline, clone, labels = case
    counted = confusion.count_confusion(baseline, clone, labels)
    gains = confusion.class_gains(counted)
    np.testing.assert_array_equal(np.isnan(gains), counted.support == 0)
    right = [(logits.argmax(-1) == labels).mean() for logits in (baseline, clone)]
    total = np.nansum(gains * counted.support) / len(labels)
    assert total == pytest.approx(100 * (right[1] - right[0]))


@given(two_networks())
@settings(max_examples=20, deadline=None)
def test_pairs_hold_every_error_once(case):
    counted = confusion.count_confusion(*case)
    pairs = confusion.confused_pairs(counted, limit=CLASSES**2)
    for field in ("baseline", "clone"):
        matrix = getattr(counted, field)
        wrong = matrix.sum() - np.trace(matrix)
        assert sum(getattr(pair, field) for pair in pairs) == wrong
    assert all(pair.first < pair.second for pair in pairs)
    errors = [pair.baseline for pair in pairs]
    assert errors == sorted(errors, reverse=True)


def test_a_class_names_what_confuses_it_and_what_the_clone_mends():
    true = [0, 0, 0, 0, 1, 1]
    baseline, labels = answers(true, [0, 1, 1, 2, 1, 1])
    clone, _ = answers(true, [0, 1, 0, 0, 1, 1])
    counted = confusion.count_confusion(baseline, clone, labels)
    first, second = confusion.confusing_of(counted, 0)
    assert first == confusion.ConfusingCategory(1, 0.5, 0.5, 0.25)
    assert second == confusion.ConfusingCategory(2, 0.25, 0.25, 0.0)
    assert confusion.confusing_of(counted, 0, limit=1) == [first]
    assert confusion.confusing_of(counted, 1) == []
    assert confusion.confusing_of(counted, 3) == []  # a class without images
    assert confusion.confused_pairs(counted, limit=1) == [(0, 1, 2, 2, 1)]


@given(st.permutations(range(9)), st.floats(0.05, 0.3))
@settings(max_examples=30, deadline=None)
def test_planted_groups_are_found_whatever_the_order(order, rate):
    """Three classes taken for each other, two others, and four that are not."""
    planted = [{0, 1, 2}, {3, 4}]
    matrix = np.zeros((9, 9))
    for group in planted:
        for i in group:
            for k in group - {i}:
                matrix[i, k] = 1000 * rate
    matrix += np.diag(1000 - matrix.sum(axis=1)) + 1  # a little noise everywhere
    order = list(order)
    found = confusion.confused_groups(matrix[np.ix_(order, order)])
    named = [{order[index] for index in group.members} for group in found]
    assert sorted(map(sorted, named)) == [[0, 1, 2], [3, 4]]
    assert [group.rate for group in found] == pytest.approx([rate] * 2, abs=0.01)
    ranked = [order[i] for i in confusion.cluster_order(matrix[np.ix_(order, order)])]
    assert sorted(ranked) == list(range(9))
    for group in planted:
        places = sorted(ranked.index(member) for member in group)
        assert places[-1] - places[0] == len(group) - 1


def test_a_higher_lift_keeps_the_tighter_groups_alone():
    matrix = np.diag([60, 60, 90, 90, 100, 100])
    matrix[0, 1] = matrix[1, 0] = 40
    matrix[2, 3] = matrix[3, 2] = 10
    pairs = [{0, 1}, {2, 3}]  # swapped at 12 and 3 times the average, 1/30
    for lift, expected in ((2.0, pairs), (4.0, pairs[:1]), (13.0, [])):
        found = confusion.confused_groups(matrix, lift=lift)
        assert [set(group.members) for group in found] == expected


def test_nothing_confused_makes_no_group():
    assert confusion.confused_groups(np.eye(4) * 10) == []
    assert confusion.cluster_order(np.eye(4) * 10) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("baseline", "clone", "labels", "message"),
    [
        ((3, 4), (3, 5), [0, 0, 0], "same images and classes"),
        ((3, 4), (3, 4), [0, 0, 4], "expected 0 to 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(baseline, clone, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion.count_confusion(np.zeros(baseline), np.zeros(clone), labels)
    with pytest.raises(ValueError, match=r"\[n, classes\] and \[n\]"):
        confusion.confusion_matrix(np.zeros((3, 4)), [0, 0])
