"""Temperatures that are known, and none fitted on what it is measured with."""

import numpy as np
import pytest

from clonalnet_jax.analysis.calibration import cross_fit, fit_temperature
from clonalnet_jax.analysis.metrics import measure_logits


def drawn(rng, count, temperature):
    """Logits that are calibrated once they are divided by the temperature."""
    logits = rng.normal(size=(count, 6)) * 2
    odds = np.exp(logits)
    probs = odds / odds.sum(-1, keepdims=True)
    labels = (probs.cumsum(-1) > rng.random((count, 1))).argmax(-1)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_is_found(rng, temperature):
    logits, labels = drawn(rng, 20_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_it_is_where_the_nll_is_least(rng):
    logits, labels = drawn(rng, 500, 2.0)
    best = fit_temperature(logits, labels)
    nll = [
        measure_logits(logits / t, labels)["nll"]
        for t in (best, best * 1.1, best / 1.1)
    ]
    assert nll[0] == min(nll)


def test_a_network_that_is_always_right_gets_a_finite_temperature():
    assert 0 < fit_temperature(np.eye(4), np.arange(4)) < 0.02


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[n, classes\]"):
        fit_temperature(np.zeros(shape), np.zeros(shape[0] + shape[0] // 4, int))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


def test_each_half_is_scaled_by_what_the_other_half_says(rng):
    logits, labels = drawn(rng, 200, 2.0)
    scaled = cross_fit(logits, labels)
    temperatures = (logits / scaled)[:, 0]
    used = np.unique(temperatures.round(4))
    assert len(used) == 2
    for value in used:
        half = np.isclose(temperatures, value, atol=1e-3)
        assert half.sum() == 100
        expected = fit_temperature(logits[~half], labels[~half])
        assert value == pytest.approx(expected, rel=1e-3)
    np.testing.assert_array_equal(scaled.argmax(-1), logits.argmax(-1))


def test_scaling_mends_a_network_that_is_too_sure(rng):
    logits, labels = drawn(rng, 4000, 4.0)
    before = measure_logits(logits, labels)
    after = measure_logits(cross_fit(logits, labels), labels)
    assert after["ece"] < before["ece"] / 3
    assert after["nll"] < before["nll"]
    assert after["top1"] == before["top1"]
