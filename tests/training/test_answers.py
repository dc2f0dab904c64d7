"""A baseline's answers in a few bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.losses import confusing_categories, focusing_picking_loss
from clonalnet_jax.training import answers


def make(seed, num_classes, scale, batch=5):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(batch, num_classes)) * scale, jnp.float32)
    return logits, jnp.asarray(rng.integers(num_classes, size=batch), jnp.int32)


@pytest.mark.parametrize("num_classes", [2, 10, 1000, 70_000])
@pytest.mark.parametrize("top_k", [1, 16])
def test_the_set_is_kept_exactly_and_the_probabilities_nearly(num_classes, top_k):
    logits, _ = make(0, num_classes, 5.0)
    rows = answers.encode(logits, temperature=2.0, top_k=top_k)
    size = answers.row_bytes(num_classes, top_k)
    assert (rows.shape, rows.dtype) == ((5, size), jnp.uint8)
    kept = answers.decode(rows, num_classes=num_classes, top_k=top_k)
    # The baseline's own set: the loss lets the labels join it.
    expected = confusing_categories(logits, temperature=2.0)
    np.testing.assert_array_equal(kept.confusing, expected)
    exact, probs = jax.nn.softmax(logits), jax.nn.softmax(kept.logits)
    best, classes = jax.lax.top_k(exact, min(top_k, num_classes))
    again = jnp.take_along_axis(probs, classes, axis=-1)
    np.testing.assert_allclose(again, best, atol=2e-5 * min(top_k, num_classes))
    # What is left is spread evenly.
    others = np.asarray(probs[0])[np.isin(np.arange(num_classes), classes[0], invert=1)]
    if len(others):
        np.testing.assert_allclose(others, others[0], rtol=1e-5)
        np.testing.assert_allclose(others.sum(), 1 - best[0].sum(), atol=1e-4)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1.0, 6.0, 1e4]),
    top_k=st.sampled_from([1, 4, 10]),
)
def test_no_loss_is_off_by_more_than_the_bound(seed, scale, top_k):
    logits, labels = make(seed, 30, scale)
    clone, _ = make(seed + 1, 30, 3.0)
    rows = answers.encode(logits, temperature=2.0, top_k=top_k)
    kept = answers.decode(rows, num_classes=30, top_k=top_k)
    exact = focusing_picking_loss(clone, logits, labels)
    cached = focusing_picking_loss(clone, kept.logits, labels, confusing=kept.confusing)
    bound = answers.error_bound(logits, kept)
    assert np.all(np.abs(exact - cached) <= bound + 1e-5)


@pytest.mark.slow
def test_all_probabilities_of_few_classes_are_good_for_the_tolerance():
    logits, _ = make(0, 10, 3.0, batch=256)
    rows = answers.encode(logits, temperature=2.0, top_k=16)
    kept = answers.decode(rows, num_classes=10, top_k=16)
    assert float(answers.error_bound(logits, kept).max()) < 1e-4
