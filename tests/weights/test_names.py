"""Names and layouts: bit-exact both ways, every tensor accounted for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model, model_names
from clonalnet_jax.weights import from_torch, head_path, to_torch
from clonalnet_jax.weights.names import torch_name
from tests.marks import quickly


def shapes_of(name, num_classes=10, size=64):
    options = {"image_size": size} if name.startswith(("vit", "deit")) else {}
    model = create_model(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    return model, shapes


def fill(shapes, rng):
    """Random values above zero, as variances are."""
    return jax.tree.map(
        lambda leaf: rng.random(leaf.shape, np.float32) + np.float32(0.1), shapes
    )


@pytest.mark.parametrize(
    "name",
    quickly(
        [n for n in model_names() if "101" not in n and "152" not in n],
        [
            *("resnet18", "resnet20", "mobilenet_v2", "convnext_tiny", "wrn_16_1"),
            *("vit_small_patch16_224", "shufflenet_v1", "shufflenet_v2", "vgg8"),
        ],
    ),
)
def test_flax_to_torch_to_flax_is_bit_exact(rng, name):
    _, shapes = shapes_of(name)
    variables = fill(shapes, rng)
    back = from_torch(to_torch(variables), shapes, source="itself")
    jax.tree.map(np.testing.assert_array_equal, variables, back)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("layer1_0", "conv1", "kernel"), "layer1.0.conv1.weight"),
        (("layer1_0", "downsample_1", "mean"), "layer1.0.downsample.1.running_mean"),
        (("features_1", "conv_0_0", "kernel"), "features.1.conv.0.0.weight"),
        (("features_12", "conv_2", "bias"), "features.12.conv.2.bias"),
        (("blocks_3", "attn", "qkv", "kernel"), "blocks.3.attn.qkv.weight"),
        (("bn1", "var"), "bn1.running_var"),
        (("cls_token",), "cls_token"),
    ],
)
def test_names_follow_the_rule(path, name):
    assert torch_name(path) == name


def test_every_wrong_tensor_is_listed_in_one_error(rng):
    _, shapes = shapes_of("resnet8")
    state = to_torch(fill(shapes, rng))
    del state["bn1.weight"]
    state["bn9.weight"] = np.zeros(3)
    state["conv1.weight"] = np.zeros((16, 1, 3, 3))
    with pytest.raises(UserError) as caught:
        from_torch(state, shapes, source="net.pth")
    message = str(caught.value)
    assert "net.pth" in message
    assert "1 missing: bn1.weight" in message
    assert "1 unexpected: bn9.weight" in message
    assert "conv1.weight (16, 1, 3, 3), not (16, 3, 3, 3)" in message


def test_a_classifier_of_another_size_is_an_error_unless_it_is_replaced(rng):
    model, shapes = shapes_of("resnet8")
    state = to_torch(fill(shapes_of("resnet8", 7)[1], rng))
    with pytest.raises(UserError, match="replace_head"):
        from_torch(state, shapes, source="net.pth")
    head = head_path(model, (64, 64, 3))
    variables = from_torch(state, shapes, source="net.pth", without=head)
    assert "fc" not in variables["params"]
    assert "conv1" in variables["params"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("resnet20", ("fc",)),
        ("mobilenet_v2", ("classifier_1",)),
        ("vit_small_patch16_224", ("head",)),
        ("convnext_tiny", ("head", "fc")),
        ("wrn_16_1", ("fc",)),
    ],
)
def test_the_classifier_is_found(name, path):
    assert head_path(shapes_of(name)[0], (64, 64, 3)) == path
