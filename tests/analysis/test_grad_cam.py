"""Grad-CAM where the answer is known: by construction, or as a closed form."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.analysis.grad_cam import grad_cam, peak_in_box
from clonalnet_jax.models import create_model, logits_and_features
from clonalnet_jax.models.features import tap
from clonalnet_jax.models.vit import VisionTransformer
from clonalnet_jax.weights.structure import head_path
from tests.marks import quickly

CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


class Brightness(nn.Module):
    """Class 0 is dark, class 1 red and class 2 blue, each seen where it is."""

    @nn.compact
    def __call__(self, images, *, train):
        """Images to three logits."""
        x = nn.avg_pool(images, (8, 8), (8, 8))
        pooled = tap(self, x).mean(axis=(1, 2))
        return jnp.stack([-pooled.sum(-1), pooled[:, 0], pooled[:, 2]], axis=-1)


def corner_image(corner, channel, shape=(32, 48, 3)):
    """Black, but for one corner of 8x8 pixels."""
    image = np.zeros(shape, np.float32)
    y, x = (end * (size - 8) for end, size in zip(corner, shape[:2], strict=True))
    image[y : y + 8, x : x + 8, channel] = 1
    return image, (x, y, x + 7, y + 7)


@pytest.mark.parametrize("corner", CORNERS)
def test_the_peak_lies_in_the_corner_that_holds_the_evidence(corner):
    red, box = corner_image(corner, 0)
    blue, other = corner_image((1 - corner[0], 1 - corner[1]), 2)
    images = jnp.array([red + blue, red + blue])
    # The same image looked at for its two classes.
    logits, heat = jax.jit(lambda x, y: grad_cam(Brightness(), {}, x, y))(
        images, jnp.array([1, 2])
    )
    assert logits.shape == (2, 3)
    assert heat.shape == (2, 32, 48)
    assert heat.max() == 1
    assert heat.min() == 0
    assert peak_in_box(heat, jnp.array([box, other])).tolist() == [True, True]
    assert peak_in_box(heat, jnp.array([other, box])).tolist() == [False, False]
    inside = heat[0, box[1] : box[3] + 1, box[0] : box[2] + 1]
    assert inside.sum() > 0.4 * heat[0].sum()  # the rest is interpolation


def test_without_a_target_the_answer_is_explained():
    image, _ = corner_image((0, 1), 2)
    images = jnp.array([image])
    logits, heat = grad_cam(Brightness(), {}, images)
    assert logits.argmax() == 2
    np.testing.assert_array_equal(heat, grad_cam(Brightness(), {}, images, [2])[1])


def test_no_evidence_is_a_map_of_zeros_and_no_peak():
    image, _ = corner_image((0, 0), 0)
    _, heat = grad_cam(Brightness(), {}, jnp.array([image]), jnp.array([0]))
    assert (heat == 0).all()
    assert not peak_in_box(heat, jnp.array([[0, 0, 47, 31]])).any()


# Networks whose features are averaged and classified linearly, at their smallest.
POOLED = {
    "resnet8": {"width": 8},
    "resnet18_small": {"width": 8},
    "resnet50": {"width": 8},
    "wrn_16_1": {},
    "vgg8": {},
    "mobilenet_v2_half": {},
    "shufflenet_v1": {},
    "shufflenet_v2": {},
}


def random_variables(model, rng, images):
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )

    def values(path, leaf):
        name = path[-1].key
        if name == "var":
            return jnp.array(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        scale = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.3
        shift = 1.0 if name == "scale" else 0.0
        return jnp.array(shift + scale * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(values, shapes)


def look(model, variables, images, targets):
    """Features and heat map, compiled together."""

    @jax.jit
    def both(variables, images):
        features = logits_and_features(model, variables, images)[1]
        return features, grad_cam(model, variables, images, targets)[1]

    features, heat = both(variables, images)
    return np.asarray(features, np.float64), np.asarray(heat)


def assert_shows(heat, features, weights):
    """Zhou et al. 2016: the map of a class is its weights times the features."""
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, weights), 0)
    expected = np.asarray(jax.image.resize(expected, heat.shape, "bilinear"))
    peaks = expected.max(axis=(1, 2), keepdims=True)
    assert (peaks > 0).any()
    np.testing.assert_allclose(heat, expected / np.maximum(peaks, 1e-30), atol=5e-4)


@pytest.mark.parametrize("name", quickly(POOLED, ("resnet8", "wrn_16_1", "vgg8")))
def test_behind_global_pooling_it_is_the_class_activation_map(name, rng):
    images = jnp.array(rng.standard_normal((3, 32, 32, 3)), jnp.float32)
    model = create_model(name, 4, **POOLED[name])
    variables = random_variables(model, rng, images)
    targets = np.array([0, 3, 1])
    features, heat = look(model, variables, images, targets)
    head = variables["params"]
    for part in head_path(model, (32, 32, 3)):
        head = head[part]
    assert_shows(heat, features, head["kernel"].T[targets])


@pytest.mark.slow
def test_convnext_is_explained_through_the_norm_behind_its_pooling(rng):
    images = jnp.array(rng.standard_normal((2, 64, 96, 3)), jnp.float32)
    model = create_model("convnext_tiny", 4, width=8)
    variables = random_variables(model, rng, images)
    targets = np.array([2, 0])
    features, heat = look(model, variables, images, targets)
    x = features.mean(axis=(1, 2))
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    # The gradient of a layer norm, worked out by hand.
    head = variables["params"]["head"]
    g = np.asarray(head["norm"]["scale"] * head["fc"]["kernel"].T)[targets]
    z = centred / deviation
    gradient = g - g.mean(-1, keepdims=True) - z * (g * z).mean(-1, keepdims=True)
    assert_shows(heat, features, gradient / deviation)


def bright_patch_transformer():
    """A ViT built so that each patch tells its brightness to the class token."""
    model = VisionTransformer(
        num_classes=2, width=8, num_heads=1, depth=2, patch=8, image_size=32
    )
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False),
        jnp.zeros((1, 32, 32, 3)),
    )
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"])
    for norm in (
        params["norm"],
        *(params[f"blocks_{block}"]["norm1"] for block in (0, 1)),
    ):
        norm["scale"][:] = 1
    params["patch_embed"]["proj"]["kernel"][:, :, 0, 0] = 1 / 64
    attention = params["blocks_1"]["attn"]
    attention["qkv"]["kernel"][0, 16] = 1  # value 0 is channel 0
    attention["proj"]["kernel"][0, 0] = 1
    params["head"]["kernel"][0, 1] = 1
    return model, {"params": params}


@pytest.mark.slow
def test_a_transformer_looks_where_the_bright_patch_is():
    model, variables = bright_patch_transformer()
    cases = [corner_image(corner, 0, (32, 32, 3)) for corner in CORNERS]
    images, boxes = (jnp.array(values) for values in zip(*cases, strict=True))
    logits, heat = jax.jit(partial(grad_cam, model))(variables, images)
    assert logits.argmax(-1).tolist() == [1] * 4
    assert heat.shape == (4, 32, 32)
    assert peak_in_box(heat, boxes).all()
    assert not peak_in_box(heat, boxes[::-1]).any()
    for one, (x0, y0, x1, y1) in zip(np.array(heat), boxes.tolist(), strict=True):
        one[max(0, y0 - 4) : y1 + 5, max(0, x0 - 4) : x1 + 5] = 0  # interpolation
        assert one.max() < 0.1


def test_bfloat16_shows_nearly_the_same(rng):
    images = jnp.array(rng.standard_normal((4, 32, 32, 3)), jnp.float32)
    model = create_model("resnet8", 4)
    variables = random_variables(model, rng, images)
    _, exact = look(model, variables, images, None)
    _, rounded = look(model.clone(dtype=jnp.bfloat16), variables, images, None)
    assert rounded.dtype == np.float32
    for one, other in zip(exact, rounded, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
