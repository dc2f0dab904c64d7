"""Tokens that fill up change nothing but the shapes that a GPU multiplies."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.models import features, vit


@pytest.mark.parametrize(
    ("image_size", "dtype", "wanted", "tokens"),
    [
        (28, jnp.bfloat16, True, 200),
        (28, jnp.bfloat16, False, 197),
        (28, jnp.float32, True, 197),
        (32, jnp.bfloat16, True, 264),
        (14, jnp.bfloat16, True, 50),  # 56 were 12 % more of everything
    ],
)
def test_only_what_is_cheap_is_filled_up(image_size, dtype, wanted, tokens):
    model = vit.VisionTransformer(
        *(5, 8, 2), depth=1, patch=2, image_size=image_size, dtype=dtype
    )
    images = jnp.zeros((3, image_size, image_size, 3))

    def init(key):
        with vit.tokens_in_eights(wanted):
            return model.init(key, images, train=False)

    program = str(jax.make_jaxpr(init)(jax.random.key(0)))
    assert max(map(int, re.findall(r"\[3,(\d+),8\]", program))) == tokens


@pytest.mark.slow
def test_filling_changes_neither_logits_nor_gradients_nor_features(monkeypatch):
    model = vit.VisionTransformer(5, width=8, num_heads=2, depth=2, image_size=32)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(3, 32, 32, 3)), jnp.float32)
    shapes = jax.eval_shape(
        lambda key: model.init(key, images, train=False), jax.random.key(0)
    )
    # Biases and positions start at zero or near it, and would hide a fault.
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype),
        shapes,
    )

    def watched(logits):
        return logits[:, 1].sum()

    def measure(filling):
        monkeypatch.setattr(vit, "_filling", lambda tokens, dtype: filling)

        def loss(variables):
            logits = model.apply(variables, images, train=True)
            return jnp.mean(jnp.sin(logits)), logits

        def both(variables):
            of_weights, logits = jax.grad(loss, has_aux=True)(variables)
            seen = features.feature_gradient(model, variables, images, watched)
            return of_weights, logits, seen

        return jax.jit(both)(variables)

    plain, filled = measure(0), measure(3)
    assert jnp.ptp(plain[1]) > 0.1
    chex.assert_trees_all_close(filled, plain, rtol=1e-4, atol=1e-5)
