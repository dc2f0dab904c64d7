"""Tensors that are wrong: each is named, and a near miss says how near."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.weights import from_torch, to_torch


@functools.cache
def shapes_of(name, num_classes=10, **options):
    model = create_model(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )


def state_of(name="resnet8", num_classes=10, **options):
    """A state dict of the network, with ones."""
    shapes = shapes_of(name, num_classes, **options)
    return to_torch(jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes))


def refusal_of(state, name="resnet8", **keywords):
    with pytest.raises(UserError) as caught:
        from_torch(state, shapes_of(name), source="net.pth", **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fc.weight", np.nan, "fc.weight has 1 NaN of 640 values"),
        ("fc.bias", np.inf, "fc.bias has 1 infinite of 10 values"),
        ("fc.bias", 1e39, "fc.bias has 1 infinite of 10 values"),
        ("bn1.running_mean", -np.inf, "bn1.running_mean has 1 infinite of 16"),
        ("bn1.running_var", np.nan, "bn1.running_var has 1 NaN"),
        ("bn1.running_var", -0.5, "bn1.running_var has variances down to -0.5"),
    ],
)
def test_values_that_no_trained_network_has_are_refused_by_name(name, value, message):
    state = state_of()
    state[name].flat[0] = value
    text = refusal_of(state)
    assert "net.pth" in text
    assert f"1 bad of 47 tensors: {message}" in text


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(dtype):
    state = {**state_of(), "fc.weight": np.ones((10, 64), dtype)}
    assert f"fc.weight is {np.dtype(dtype)}" in refusal_of(state)


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float64, jnp.bfloat16, jnp.float8_e4m3fn]
)
def test_floating_point_numbers_of_any_size_are_taken(dtype):
    state = {name: array.astype(dtype) for name, array in state_of().items()}
    variables = from_torch(state, shapes_of("resnet8"), source="net.pth")
    assert variables["params"]["fc"]["kernel"].shape == (64, 10)


def test_negative_weights_and_means_and_no_variance_at_all_are_taken():
    state = state_of()
    state["fc.weight"][:] = state["bn1.running_mean"][:] = -1
    state["bn1.running_var"][:] = 0
    from_torch(state, shapes_of("resnet8"), source="net.pth")


def test_what_is_left_out_need_not_be_good():
    state = state_of()
    state["fc.bias"][:] = np.nan
    from_torch(state, shapes_of("resnet8"), source="net.pth", without=("fc",))


def test_what_stands_in_place_of_a_tensor_is_said():
    state = state_of()
    del state["fc.bias"]
    why = "the file asks for os.system, which is not called"
    text = refusal_of(state, others={"fc.bias": why, "epoch": "a int"})
    assert f"1 missing: fc.bias ({why})" in text
    assert "epoch" not in text


def test_names_that_all_differ_by_a_prefix_say_so():
    state = {f"backbone.{name}": array for name, array in state_of().items()}
    text = refusal_of({**state, "loss.weight": np.ones(10)})
    assert "47 of 47 names only below 'backbone.'" in text
    assert "--config.baseline.weights_key=backbone" in text


def test_a_near_miss_says_how_near():
    state = state_of()
    del state["bn1.weight"]
    assert "a near miss, 46 of 47 tensors match; 1 missing: bn1" in refusal_of(state)
    assert "near miss" not in refusal_of(state_of("wrn_16_1"))


@pytest.mark.parametrize(
    ("state", "name", "remedy"),
    [
        (
            state_of("resnet8", padded_shortcuts=True),
            "resnet8",
            "padded_shortcuts=True",
        ),
        (state_of("resnet18_small"), "resnet18", "small_stem=True; where max pooling"),
        (state_of("resnet18"), "resnet18_small", "small_stem=False"),
        (state_of("resnet8", 7), "resnet8", "replace_head"),
        (state_of("wrn_16_1"), "resnet8", "config.baseline.model"),
    ],
    ids=["shortcuts", "small stem", "large stem", "classes", "another network"],
)
def test_the_option_that_would_explain_it_is_named(state, name, remedy):
    assert remedy in refusal_of(state, name)
