"""Weight gradients from parts of the batch are the weight gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import Small

from clonalnet_jax.models import convolution


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(convolution, "_PART", 2**8)


@pytest.mark.parametrize(
    ("batch", "parts"), [(12, 6), (16, 8), (7, 7), (64, 8), (34, 2), (1, 1)]
)
@pytest.mark.parametrize("strides", [1, 2])
def test_the_gradient_is_the_sum_of_its_parts(rng, batch, parts, strides):
    images = jnp.asarray(rng.normal(size=(batch, 16, 16, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 8)), jnp.float32)

    def loss(images, kernel):
        options = {"feature_group_count": 1, "rhs_dilation": (1, 1)}
        layout = ("NHWC", "HWIO", "NHWC")
        outputs = convolution.convolve(
            images, kernel, (strides,) * 2, "SAME", dimension_numbers=layout, **options
        )
        return jnp.sum(jnp.sin(outputs))

    expected = jax.grad(loss, argnums=(0, 1))(images, kernel)
    with convolution.gradients_in_parts():
        gradient = jax.jit(lambda *x: jax.grad(loss, argnums=(0, 1))(*x))
        found = gradient(images, kernel)
        count = gradient.lower(images, kernel).as_text().count("stablehlo.convolution")
    # Forwards, that of the images, and those of the kernel.
    assert count == 2 + parts
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_network_has_the_same_gradient(rng):
    model = Small()
    images = jnp.asarray(rng.normal(size=(4, 8, 8, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), images, train=False)

    def loss(params, images):
        variables_ = {**variables, "params": params}
        return jnp.sum(jnp.sin(model.apply(variables_, images, train=False)))

    expected = jax.jit(jax.grad(loss))(variables["params"], images)
    with convolution.gradients_in_parts():
        found = jax.jit(lambda *x: jax.grad(loss)(*x))(variables["params"], images)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found, expected
    )


def test_without_being_asked_for_nothing_changes(rng):
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    model = Small()
    variables = model.init(jax.random.key(0), images, train=False)
    forward = partial(model.apply, variables, train=False)
    with convolution.gradients_in_parts(False):
        _, change = jax.jvp(forward, (images,), (images,))  # not of reverse mode alone
    assert np.isfinite(change).all()
