"""Confusing categories, and the multi-warm labels made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.losses import (
    confusing_categories,
    focusing_picking_terms,
    multi_warm_labels,
)
from tests.losses.reference import logit_rows, make_example, reference_warm

compiled_multi_warm_labels = jax.jit(multi_warm_labels)


def test_confusing_categories_are_those_above_average_and_the_label():
    logits = jnp.asarray([[4.0, 3.9, -2.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
    mask = confusing_categories(logits, jnp.asarray([2, 1]))
    expected = [[True, True, True, False], [False, True, False, False]]
    np.testing.assert_array_equal(mask, expected)


def test_without_labels_they_are_the_baselines_own():
    logits = jnp.asarray([[4.0, 3.9, -2.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [[True, True, False, False], [False, False, False, False]]
    np.testing.assert_array_equal(confusing_categories(logits), expected)


def test_every_category_with_label_weight_is_confusing():
    logits = jnp.asarray([[9.0, 0.0, 0.0, 0.0]])
    soft = jnp.asarray([[0.0, 0.6, 0.4, 0.0]])
    mask = confusing_categories(logits, soft)
    np.testing.assert_array_equal(mask, [[True, True, True, False]])
    np.testing.assert_array_equal(multi_warm_labels(logits, soft) > 0, mask)


def test_a_higher_temperature_finds_more_confusing_categories(rng):
    logits = rng.normal(size=(200, 20)) * 3
    labels = np.zeros(200, np.int32)
    sizes = [
        confusing_categories(logits, labels, temperature=t).sum() for t in (0.5, 2, 8)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100))
def test_multi_warm_labels_are_equal_weights_that_include_the_label(logits, number):
    label = number % logits.shape[-1]
    warm = np.asarray(compiled_multi_warm_labels(logits, np.asarray([label])))[0]
    np.testing.assert_allclose(warm.sum(), 1.0, rtol=1e-5)
    assert warm[label] > 0
    assert len(np.unique(warm[warm > 0])) == 1


def test_a_mixed_label_has_the_expectation_over_its_labels():
    # The baseline confuses 0 and 1. As 1 is among them, it has halves; 2 has thirds.
    logits = jnp.asarray([[4.0, 3.9, -2.0, -2.0]])
    warm = multi_warm_labels(logits, jnp.asarray([[0.0, 0.6, 0.4, 0.0]]))
    both = 0.6 / 2 + 0.4 / 3
    np.testing.assert_allclose(warm, [[both, both, 0.4 / 3, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7)])
def test_multi_warm_labels_equal_the_definition_for_any_distribution(rng, shape):
    _, b, _, _ = make_example(rng, shape)
    y = rng.dirichlet(np.full(7, 0.3), size=shape[:-1]) * 1.5
    with jax.enable_x64(True):
        warm = np.asarray(multi_warm_labels(b, y))
    np.testing.assert_allclose(warm, reference_warm(b, y), rtol=1e-12)
    np.testing.assert_allclose(warm.sum(-1), y.sum(-1), rtol=1e-12)


def test_a_tiny_weight_hardly_moves_the_target(rng):
    z, b, labels, y = make_example(rng, (64, 10))
    tiny = y + 1e-7 * (np.roll(y, 1, axis=-1) - y)
    with jax.enable_x64(True):
        for function in (multi_warm_labels, lambda b, y: attention_of(z, b, y)):
            np.testing.assert_allclose(
                function(b, tiny), function(b, labels), atol=3e-6
            )


def attention_of(z, b, labels):
    return focusing_picking_terms(z, b, labels).attention
