"""Initial values, from their definitions; tests/interop compares whole networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from clonalnet_jax.models import create_model
from clonalnet_jax.models.layers import narrow_normal, torch_default_bias


def initial_params(name, *layers, **options):
    """The initial `params` of some layers; what draws the others is not compiled."""
    images = jnp.zeros((1, 32, 32, 3))
    model = create_model(name, 10, **options)

    def init(key):
        params = flatten_dict(model.init(key, images, train=False)["params"], sep="/")
        return [params[layer] for layer in layers]

    return jax.jit(init)(jax.random.key(0))


def test_the_narrow_normal_distribution_is_as_wide_as_it_says():
    values = np.asarray(narrow_normal(jax.random.key(0), (100_000,)))
    assert values.std() == pytest.approx(0.02, rel=0.01)
    assert values.mean() == pytest.approx(0, abs=3e-4)
    # Nothing is cut off: one of 370 values is beyond three standard deviations.
    assert np.mean(np.abs(values) > 0.06) == pytest.approx(0.0027, rel=0.2)


@pytest.mark.parametrize("fan_in", [1, 64, 768])
def test_pytorchs_default_bias_is_uniform_within_its_bound(fan_in):
    values = np.asarray(torch_default_bias(fan_in)(jax.random.key(0), (100_000,)))
    bound = fan_in**-0.5
    assert values.dtype == np.float32
    assert np.abs(values).max() <= bound
    np.testing.assert_allclose([values.min(), values.max()], [-bound, bound], rtol=1e-3)
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.01)


# Of the classifier: the bound of its bias where it is drawn, and None where it is 0.
CLASSIFIERS = {
    "resnet8": ("fc", 64),
    "wrn_16_1": ("fc", None),
    "vgg8": ("classifier", None),
    "shufflenet_v1": ("linear", 960),
    "shufflenet_v2": ("linear", 1024),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_bias_of_a_classifier_starts_as_its_reference_draws_it(name):
    layer, fan_in = CLASSIFIERS[name]
    (bias,) = initial_params(name, f"{layer}/bias")
    if fan_in is None:
        assert not bias.any()
    else:
        assert 0.5 * fan_in**-0.5 < jnp.abs(bias).max() <= fan_in**-0.5


def test_only_the_patches_of_a_vision_transformer_have_a_bias_at_first():
    patches, *others = initial_params(
        "vit_small_patch16_224",
        *("patch_embed/proj/bias", "blocks_0/attn/qkv/bias", "head/bias"),
        image_size=32,
    )
    assert 0 < jnp.abs(patches).max() <= (16 * 16 * 3) ** -0.5
    assert not any(bias.any() for bias in others)
