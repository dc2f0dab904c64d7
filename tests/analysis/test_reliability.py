"""Calibration curves: the evaluation's own bins, and areas that are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.analysis.metrics import metric_sums, summarise
from clonalnet_jax.analysis.reliability import reliability, risk_coverage


def draw(rng, count=400, classes=6, scale=2.0):
    logits = scale * rng.standard_normal((count, classes)).astype(np.float32)
    return logits, rng.integers(classes, size=count)


@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
def test_a_diagram_makes_the_ece_that_is_reported(rng, scale):
    logits, labels = draw(rng, scale=scale)
    diagram = reliability(logits, labels)
    sums = metric_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.ones(len(labels)))
    reported = summarise(sums)["ece"]
    gaps = np.abs(diagram.accuracy - diagram.confidence) * diagram.images
    assert 100 * np.nansum(gaps) / len(labels) == pytest.approx(reported, rel=1e-5)
    assert diagram.ece == reported
    assert diagram.images.sum() == len(labels)
    full = diagram.images > 0
    assert (np.isnan(diagram.accuracy) == ~full).all()
    assert (diagram.confidence[full] > diagram.edges[:-1][full] - 1e-6).all()
    assert (diagram.confidence[full] <= diagram.edges[1:][full] + 1e-6).all()


def test_a_sure_and_correct_network_lies_in_the_last_bin():
    diagram = reliability(np.eye(3) * 100, np.arange(3))
    assert diagram.images.tolist() == [0] * 14 + [3]
    assert diagram.accuracy[-1] == diagram.confidence[-1] == 1
    assert diagram.ece == 0


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_the_last_risk_is_the_error_and_order_does_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    logits, labels = draw(rng, count=50)
    logits = np.round(logits)  # so that there are equal confidences
    curve = risk_coverage(logits, labels)
    assert curve.risk[-1] == pytest.approx((logits.argmax(-1) != labels).mean())
    assert (np.diff(curve.coverage) > 0).all()
    assert curve.coverage[-1] == 1
    order = rng.permutation(50)
    again = risk_coverage(logits[order], labels[order])
    np.testing.assert_allclose(again.risk, curve.risk, atol=1e-12)


def test_areas_that_are_known():
    sure, unsure = [9.0, 0.0], [1.0, 0.0]
    logits = np.array([sure, unsure, unsure, unsure])
    # The one that is sure is right, one of the three others is wrong: on average
    # their risk grows by a third of an image each.
    curve = risk_coverage(logits, [0, 1, 0, 0])
    np.testing.assert_allclose(curve.risk, [0, 1 / 6, 2 / 9, 1 / 4])
    assert curve.aurc == pytest.approx(np.mean([0, 1 / 6, 2 / 9, 1 / 4]))
    assert risk_coverage(logits, [0, 0, 0, 0]).aurc == 0
    assert risk_coverage(logits, [1, 1, 1, 1]).aurc == 1


def test_the_expectation_over_ties_is_that_of_many_orders(rng):
    logits = np.array([[2.0, 0], [2.0, 0], [2.0, 0], [1.0, 0]])
    labels = np.array([1, 0, 0, 1])
    areas = []
    for _ in range(2000):
        # Too small a difference to change anything but the order.
        jitter = np.array([1e-9, 0]) * rng.standard_normal((4, 1))
        areas.append(risk_coverage(logits + jitter, labels).aurc)
    assert np.mean(areas) == pytest.approx(risk_coverage(logits, labels).aurc, abs=0.01)
