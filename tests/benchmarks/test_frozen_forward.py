"""Whether the forms of a forward pass that are compared compute the same."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import frozen_forward


@pytest.fixture
def networks(monkeypatch):
    """Two networks of one shape, with one block in each of two stages."""
    monkeypatch.setitem(frozen_forward.NETWORKS, "small", ((1, 1), (4, 6)))
    random = np.random.default_rng(0)

    def draw(shape):
        return jnp.asarray(random.normal(scale=0.4, size=shape), jnp.float32)

    shapes = list(frozen_forward.kernel_shapes("small"))
    return [
        [frozen_forward.Layer(draw(shape), draw(shape[-1:])) for shape in shapes]
        for _ in range(2)
    ]


@pytest.mark.parametrize("form", ["two, in groups", "two, with zeros between"])
def test_both_in_one_are_both(networks, form):
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 3)))
    apart = frozen_forward.FORMS["two, one after the other"]("small")
    together = frozen_forward.FORMS[form]("small")
    expected = jnp.concatenate(jax.jit(apart)(*networks, images), axis=-1)
    got = jax.jit(together)(*networks, images)
    if got.ndim == 3:
        got = jnp.concatenate(list(got), axis=-1)
    assert jnp.ptp(expected) > 1
    chex.assert_trees_all_close(got, expected, rtol=0.02, atol=0.02)
