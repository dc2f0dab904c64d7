"""The gradient in closed form, and what is differentiated beside the clone's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax import losses
from clonalnet_jax.losses import confusing_categories, focusing_picking_loss
from tests.losses.reference import (
    compiled_value_and_gradient,
    finite_differences,
    log_softmax,
    make_example,
    reference_loss,
    softmax,
)

HYPERPARAMETERS = [
    {},
    {"temperature": 1.0, "label_smoothing": 0.0},
    {"temperature": 5.0, "attention_weight": 0.3, "negentropy_weight": 0.0},
]
FORMS = [losses.focusing_picking_definition, focusing_picking_loss]


@pytest.mark.parametrize("loss", FORMS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kwargs", HYPERPARAMETERS)
def test_value_and_gradient_equal_the_reference_in_float64(rng, loss, kwargs, soft):
    z, b, labels, y = make_example(rng, soft=soft)
    rename = {
        "label_smoothing": "eps",
        "attention_weight": "alpha",
        "negentropy_weight": "beta",
    }
    reference = functools.partial(
        reference_loss, b=b, y=y, **{rename.get(k, k): v for k, v in kwargs.items()}
    )
    with jax.enable_x64(True):
        value, gradient = compiled_value_and_gradient(
            jnp.asarray(z), b, labels, loss=functools.partial(loss, **kwargs)
        )
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, reference(z), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        gradient, finite_differences(reference, z), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(10,), (2, 3, 7), (64, 1000)])
def test_the_closed_form_is_the_definition_differentiated(rng, shape, soft):
    z, b, labels, _ = make_example(rng, shape, soft=soft)
    with jax.enable_x64(True):
        for argnums in (0, 2) if soft else (0,):
            gradients = [
                jax.jit(jax.grad(lambda *x, f=f: f(*x).sum(), argnums))(z, b, labels)
                for f in FORMS
            ]
            np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_labels_and_smoothing_are_differentiated_too(rng):
    z, b, _, y = make_example(rng, soft=True)
    with jax.enable_x64(True):
        gradients = jax.jit(
            jax.grad(
                lambda y, eps: focusing_picking_loss(
                    z, b, y, label_smoothing=eps
                ).sum(),
                argnums=(0, 1),
            )
        )(jnp.asarray(y), 0.1)
    expected = finite_differences(lambda y: reference_loss(z, b, y), y)
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-9)
    shifted = log_softmax(z + softmax(z) - softmax(b))
    expected = ((y - 1 / z.shape[-1]) * shifted).sum()
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-10)


def test_an_empty_set_is_no_division_by_zero(rng):
    z, _, labels, y = make_example(rng)
    b = np.zeros_like(z)
    assert not confusing_categories(b).any()
    for given in (labels, y):
        value, gradient = compiled_value_and_gradient(
            jnp.asarray(z), b, jnp.asarray(given)
        )
        np.testing.assert_allclose(value, reference_loss(z, b, y), rtol=1e-5)
        assert np.isfinite(gradient).all()
    of_labels = jax.jit(jax.grad(lambda y: focusing_picking_loss(z, b, y).sum()))(y)
    expected = finite_differences(lambda y: reference_loss(z, b, y), y)
    np.testing.assert_allclose(of_labels, expected, rtol=1e-4)


@pytest.mark.parametrize("soft", [False, True])
def test_a_known_set_gives_the_same_loss_and_gradients(rng, soft):
    z, b, labels, _ = make_example(rng, soft=soft)
    own = confusing_categories(b)
    known = functools.partial(focusing_picking_loss, confusing=own)
    arguments = jnp.asarray(z), b, jnp.asarray(labels)
    results = [
        compiled_value_and_gradient(*arguments, loss=f) for f in [*FORMS[1:], known]
    ]
    if not soft:
        # A set that holds the label already is the same set.
        with_label = confusing_categories(b, labels)
        known = functools.partial(focusing_picking_loss, confusing=with_label)
        results.append(compiled_value_and_gradient(*arguments, loss=known))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_can_be_differentiated_again(rng, soft):
    z, b, labels, _ = make_example(rng, (2, 5), soft=soft)
    direction = rng.normal(size=z.shape)

    @jax.jit
    def gradient(z):
        return jax.grad(lambda z: focusing_picking_loss(z, b, labels).sum())(z)

    with jax.enable_x64(True):
        z = jnp.asarray(z)
        _, vjp = jax.vjp(gradient, z)
        (curvature,) = vjp(jnp.asarray(direction))
        # As jax.hessian does it.
        _, forward = jax.jvp(gradient, (z,), (jnp.asarray(direction),))
        h = 1e-5
        change = gradient(z + h * direction) - gradient(z - h * direction)
        change = change / (2 * h)
    # The Hessian is symmetric.
    np.testing.assert_allclose(curvature, change, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(forward, curvature, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        *FORMS,
        lambda z, b, labels: losses.distillation_loss(z, b, temperature=4.0),
        losses.decoupled_distillation_loss,
        lambda z, b, labels: losses.standardised_distillation_loss(z, b),
    ],
)
def test_no_derivative_of_any_order_reaches_the_baseline(rng, loss):
    z, b, labels, _ = make_example(rng)
    direction = rng.normal(size=z.shape)

    def first(z, b):
        return loss(z, b, labels).sum()

    def second(z, b):
        return (jax.grad(first)(z, b) * direction).sum()

    for function in (first, second):
        of_clone, of_baseline = jax.jit(jax.grad(function, (0, 1)))(z, b)
        assert np.abs(of_clone).max() > 0.01
        np.testing.assert_array_equal(of_baseline, 0.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("soft", [False, True])
def test_the_backward_pass_keeps_nothing_as_large_as_the_logits(rng, dtype, soft):
    z, b, labels, _ = make_example(rng, (64, 100), soft=soft)
    z, b = jnp.asarray(z, dtype), jnp.asarray(b, dtype)
    labels = jnp.asarray(labels, jnp.float32 if soft else jnp.int32)
    _, vjp = jax.vjp(focusing_picking_loss, z, b, labels)
    large = [x for x in jax.tree.leaves(vjp) if x.size >= z.size]
    inputs = [z, b, labels] if soft else [z, b]
    assert len(large) <= len(inputs)
    for kept in large:
        assert any(kept.dtype == x.dtype and np.array_equal(kept, x) for x in inputs)
