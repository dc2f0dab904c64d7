"""A row's maximum and sums in one pass are those of two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clonalnet_jax.losses import _peaks, focusing_picking_loss

ROWS = arrays(
    np.float32,
    st.sampled_from([(2, 1), (1, 33)]),  # each is compiled
    # XLA takes subnormal numbers for 0.
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@settings(deadline=None, max_examples=50)
@given(logits=ROWS, temperature=st.sampled_from([None, 0.25, 8.0]))
def test_one_pass_finds_what_two_find(logits, temperature):
    wide = logits.astype(np.float64)
    peak = wide.max(axis=-1, keepdims=True)
    found = _peaks._in_one_pass(jnp.asarray(logits), temperature)
    np.testing.assert_array_equal(found.peak, peak)
    total = np.exp(wide - peak).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.total, total, rtol=1e-5)
    if temperature is None:
        assert found.softened_total is None
    else:
        softened = np.exp((wide - peak) / temperature).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(found.softened_total, softened, rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "peak", "total"),
    [
        ([-np.inf, 2.0, -np.inf, 2.0], 2.0, 2.0),  # classes that are masked
        ([5.0] * 7, 5.0, 7.0),
        ([3e38, -3e38], 3e38, 1.0),
    ],
)
def test_what_is_infinite_or_equal_counts_as_it_should(row, peak, total):
    found = _peaks._in_one_pass(jnp.asarray([row], jnp.float32), 2.0)
    assert (found.peak.item(), found.total.item()) == (np.float32(peak), total)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_what_is_no_number_stays_none(bad, place):
    row = jnp.zeros((1, 5)).at[0, place].set(bad)
    one, two = _peaks._in_one_pass(row, 2.0), _peaks._in_two_passes(row, 2.0)
    # An infinite logit makes probabilities NaN; both say so where it is subtracted.
    for found in (one, two):
        assert jnp.isnan(jnp.exp(row - found.peak) / found.total).any()


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_those_of_two_passes(rng, order):
    logits = jnp.asarray(rng.normal(size=(3, 11)))
    weights = jnp.asarray(rng.normal(size=(3, 1)))

    def value(passes, logits):
        found = passes(logits, jnp.asarray(3.0))
        return jnp.sum(weights * jnp.log(found.total) * jnp.sin(found.softened_total))

    def derivative(passes):
        found = jax.grad(functools.partial(value, passes))
        if order == 1:
            return found(logits)
        return jax.jvp(found, (logits,), (jnp.cos(logits),))[1]

    np.testing.assert_allclose(
        derivative(_peaks._in_one_pass),
        derivative(_peaks._in_two_passes),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_a_loss_of_one_pass_is_that_of_two(rng, monkeypatch, shape):
    logits, baseline = jnp.asarray(rng.normal(size=(2, *shape)) * 5, jnp.float32)
    labels = jnp.asarray(rng.integers(5, size=shape[:-1]))

    def both(logits, temperature):
        return jax.value_and_grad(
            lambda z: jnp.sum(
                focusing_picking_loss(z, baseline, labels, temperature=temperature)
            )
        )(logits)

    expected = jax.jit(both)(logits, 2.0)
    monkeypatch.setattr(_peaks, "_in_two_passes", _peaks._in_one_pass)
    # As a function of its own, which is traced anew.
    found = jax.jit(lambda *x: both(*x))(logits, 2.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
def test_only_a_tpu_takes_one_pass(platform):
    logits = jax.ShapeDtypeStruct((64, 1000), jnp.float32)
    labels = jax.ShapeDtypeStruct((64,), jnp.int32)
    loss = jax.jit(lambda *x: focusing_picking_loss(*x))
    lowered = loss.trace(logits, logits, labels).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    maxima = text.count("applies stablehlo.maximum across dimensions = [1]")
    several = text.count(":2 = stablehlo.reduce(") + text.count(
        ":4 = stablehlo.reduce("
    )
    assert (maxima, several) == ((0, 2) if platform == "tpu" else (2, 0))
