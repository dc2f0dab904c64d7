"""Grad-CAM and pytorch-grad-cam: the same heat maps from the same weights."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_bridge as bridge

from clonalnet_jax.analysis.grad_cam import grad_cam
from clonalnet_jax.models import create_model

torch, torchvision, timm = bridge.import_torch()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about its own optional parts
    pytest.importorskip("pytorch_grad_cam", reason="needs the extra [interop]")
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

CLASSES, TARGETS = 7, (4, 0, 2, 1, 6, 3)


def grid(tokens):
    """A transformer's tokens as a map `[b, c, h, w]`, without the class token."""
    side = int((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


# What pytorch-grad-cam recommends to look at, and at which size of image.
CASES = {
    "resnet18": (96, lambda network: network.layer4[-1], None),
    "resnet50": (96, lambda network: network.layer4[-1], None),
    "mobilenet_v2": (96, lambda network: network.features[-1], None),
    "convnext_tiny": (128, lambda network: network.stages[-1], None),
    "vit_small_patch16_224": (96, lambda network: network.blocks[-1].norm1, grid),
}


def make_pair(name, size):
    """The reference with random weights, and our network."""
    if name.startswith("vit"):
        reference = timm.create_model(name, num_classes=CLASSES, img_size=size)
        model = create_model(name, CLASSES, image_size=size)
    else:
        source = (
            timm.create_model if "convnext" in name else torchvision.models.get_model
        )
        reference = source(name, num_classes=CLASSES)
        model = create_model(name, CLASSES)
    return model, bridge.randomise(torch, reference).eval()


@pytest.mark.parametrize("name", CASES)
def test_heat_maps_are_those_of_pytorch_grad_cam(name, record_property):
    size, layer, reshape = CASES[name]
    model, reference = make_pair(name, size)
    images = bridge.random_images(size, batch=len(TARGETS))
    variables = bridge.variables_of(reference, model, images)
    with GradCAM(reference, [layer(reference)], reshape_transform=reshape) as cam:
        targets = [ClassifierOutputTarget(target) for target in TARGETS]
        expected = cam(bridge.nchw(torch, images), targets=targets)
    _, heat = jax.jit(lambda v, x: grad_cam(model, v, x, jnp.array(TARGETS)))(
        variables, images
    )
    assert heat.shape == expected.shape
    correlations = [
        float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
        for ours, theirs in zip(np.asarray(heat), expected, strict=True)
        # Where no evidence speaks for the class there is no map to compare.
        if theirs.any() or ours.any()
    ]
    record_property("least_correlation", min(correlations))
    assert len(correlations) >= 2
    assert min(correlations) > 0.999
