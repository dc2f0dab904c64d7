"""The focusing-picking loss and its terms against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from clonalnet_jax.losses import (
    confusing_categories,
    focusing_picking_definition,
    focusing_picking_loss,
    focusing_picking_terms,
)
from tests.losses.reference import (
    logit_rows,
    make_example,
    reference_loss,
    reference_terms,
    value_and_gradient,
)


def test_a_value_that_can_be_worked_out_by_hand():
    # Both networks know nothing: no lead, and only the label is confusing.
    logits = jnp.zeros((1, 4))
    for loss in (focusing_picking_definition, focusing_picking_loss):
        value = loss(logits, logits, jnp.asarray([2]))
        np.testing.assert_allclose(value, np.log(4) + np.log(4) - np.log(4), rtol=1e-6)


def test_terms_equal_the_definition(rng):
    z, b, labels, y = make_example(rng)
    terms = focusing_picking_terms(z, b, labels)
    for term, reference in zip(terms, reference_terms(z, b, y), strict=True):
        np.testing.assert_allclose(term, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(10,), (4, 10), (2, 3, 7), (3, 21_841)])
def test_float32_equals_the_definition_for_any_leading_dimensions(rng, shape):
    z, b, labels, y = make_example(rng, shape)
    value = focusing_picking_loss(z.astype(np.float32), b.astype(np.float32), labels)
    assert value.dtype == jnp.float32
    assert value.shape == shape[:-1]
    np.testing.assert_allclose(value, reference_loss(z, b, y), rtol=1e-5, atol=1e-5)


def test_bfloat16_logits_are_computed_in_float32(rng):
    z, b, labels, _ = make_example(rng)
    z, b = jnp.asarray(z, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16)
    low = focusing_picking_loss(z, b, labels)
    high = focusing_picking_loss(z.astype(jnp.float32), b.astype(jnp.float32), labels)
    assert low.dtype == jnp.float32
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("num_classes", [2, 10, 1000, 21_841])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_values_and_gradients_are_finite_for_extreme_logits(rng, num_classes, scale):
    z = scale * rng.choice([-1.0, 0.0, 1.0], size=(4, num_classes))
    b = scale * rng.choice([-1.0, 0.0, 1.0], size=(4, num_classes))
    labels = rng.integers(num_classes, size=4)

    def total(z):
        return focusing_picking_loss(z, b, labels).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.asarray(z, jnp.float32))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def under_shard_map(z, b, labels):
    mesh = Mesh(jax.devices()[:4], ("data",))
    split = PartitionSpec("data")
    return jax.shard_map(
        value_and_gradient, mesh=mesh, in_specs=(split,) * 3, out_specs=(split,) * 2
    )(z, b, labels)


def under_pmap(z, b, labels):
    parts = [x.reshape(4, 2, *x.shape[1:]) for x in (z, b, labels)]
    loss, gradient = jax.pmap(value_and_gradient, devices=jax.devices()[:4])(*parts)
    return loss.reshape(8), gradient.reshape(8, -1)


@pytest.mark.parametrize(
    "transformed",
    [
        pytest.param(jax.jit(value_and_gradient), id="jit"),
        pytest.param(jax.vmap(value_and_gradient), id="vmap"),
        pytest.param(jax.jit(under_shard_map), id="shard_map"),
        pytest.param(under_pmap, id="pmap"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pmap.*:DeprecationWarning")
def test_transformations_change_nothing(rng, transformed):
    z, b, labels, _ = make_example(rng, (8, 10))
    arguments = [jnp.asarray(z, jnp.float32), jnp.asarray(b, jnp.float32)]
    expected = value_and_gradient(*arguments, jnp.asarray(labels))
    actual = transformed(*arguments, jnp.asarray(labels))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_one_hot_distributions_equal_integer_labels(rng):
    z, b, labels, y = make_example(rng)
    np.testing.assert_allclose(
        focusing_picking_loss(z, b, y), focusing_picking_loss(z, b, labels), rtol=1e-6
    )


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_loss_does_not_depend_on_the_order_of_the_classes(logits, number, random):
    label = number % logits.shape[-1]
    order = list(range(logits.shape[-1]))
    random.shuffle(order)
    baseline = logits[:, ::-1]
    loss = jax.jit(focusing_picking_loss)
    value = loss(logits, baseline, np.asarray([label]))
    moved = loss(logits[:, order], baseline[:, order], np.asarray([order.index(label)]))
    np.testing.assert_allclose(value, moved, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(logit_rows, st.integers(0, 100))
def test_terms_stay_within_their_bounds(logits, number):
    num_classes = logits.shape[-1]
    labels = np.asarray([number % num_classes])
    terms = focusing_picking_terms(logits, logits[:, ::-1], labels)
    assert terms.classification >= 0
    size = confusing_categories(logits[:, ::-1], labels).sum()
    # A distribution is never nearer to the warm label than the warm label itself.
    assert terms.attention >= np.log(size) - 1e-4
    assert -np.log(num_classes) - 1e-4 <= terms.negentropy <= 0
