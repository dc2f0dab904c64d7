"""Every network: its size, its output and what it says to a wrong option."""

import jax
import jax.numpy as jnp
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import count_parameters, create_model, model_names

# As published with the definitions: RepDistiller (Tian et al. 2020), 100 classes.
PARAMETERS = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}


def shapes(model, image_shape=(32, 32, 3)):
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    return jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), images
    )


@pytest.mark.parametrize("name", model_names())
def test_parameter_counts_are_the_published_ones(name):
    logits, variables = shapes(create_model(name, 100))
    assert count_parameters(variables["params"]) == PARAMETERS[name]
    assert logits.shape == (2, 100)


@pytest.mark.parametrize("size", [8, 32, 64])
def test_one_network_takes_images_of_any_size(size):
    logits, _ = shapes(create_model("resnet8", 7), (size, size, 1))
    assert logits.shape == (2, 7)


def test_width_and_stem_are_options():
    _, narrow = shapes(create_model("resnet8", 10, width=8))
    _, wide = shapes(create_model("resnet8", 10, width=16, stem_stride=2))
    assert count_parameters(narrow["params"]) < count_parameters(wide["params"])


def test_bfloat16_computes_low_and_keeps_parameters_high():
    logits, variables = shapes(create_model("resnet8", 10, dtype="bfloat16"))
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet9", {}, "did you mean"),
        ("resnet8", {"widht": 4}, "did you mean 'width'"),
        ("resnet8", {"width": 0}, "a positive integer"),
        ("resnet8", {"stem_stride": "2"}, "a positive integer"),
    ],
)
def test_a_wrong_name_or_option_says_what_would_be_right(name, options, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 10, **options)
