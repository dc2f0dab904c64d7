"""Folded batch norm: the same logits from fewer variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.models import create_model, eval_logits
from clonalnet_jax.weights import fold_batch_norm
from tests.marks import quickly

SHAPE = (32, 32, 3)


def randomised(model, rng):
    """Variables with running statistics that are not those of the start."""
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False),
        jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32),
    )

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return rng.normal(size=leaf.shape) * fan_in**-0.5
        low, high = {"var": (0.5, 1.5), "scale": (0.7, 1.3)}.get(name, (-0.3, 0.3))
        return rng.uniform(low, high, size=leaf.shape)

    tree = jax.tree_util.tree_map_with_path(draw, shapes)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


# How many of its batch norms follow a convolution.
FOLDED = {
    "resnet8": (9, 9),
    "resnet18_small": (20, 20),
    "wrn_16_1": (13, 6),
    "vgg8": (5, 5),
    "mobilenet_v2_half": (53, 53),
    "shufflenet_v2": (56, 56),
}


def count_norms(variables):
    return len(jax.tree.leaves(variables.get("batch_stats", {}))) // 2


@pytest.mark.parametrize("name", quickly(FOLDED, ("resnet8", "wrn_16_1", "vgg8")))
def test_logits_are_the_same_and_batch_norms_are_gone(rng, name):
    model = create_model(name, 10)
    variables = randomised(model, rng)
    forward, folded = fold_batch_norm(model, variables, SHAPE)
    norms, foldable = FOLDED[name]
    assert count_norms(variables) == norms
    assert count_norms(folded) == norms - foldable
    images = jnp.asarray(rng.normal(size=(4, *SHAPE)), jnp.float32)
    expected = jax.jit(lambda v, x: eval_logits(model, v, x))(variables, images)
    actual = jax.jit(forward)(folded, images)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=1e-4 * float(jnp.abs(expected).max())
    )


def test_a_network_without_batch_norm_stays_as_it_is(rng):
    model = create_model("vit_small_patch16_224", 10, image_size=32)
    variables = randomised(model, rng)
    _, folded = fold_batch_norm(model, variables, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, folded["params"], variables["params"])
