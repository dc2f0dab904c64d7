"""Our networks and the references in PyTorch: the same numbers, live."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch_bridge as bridge

from clonalnet_jax.models import create_model, model_names, native_size

torch, torchvision, timm = bridge.import_torch()
import small_references  # noqa: E402 - it imports torch, so only behind the skip

IMAGENET = [name for name in model_names() if native_size(name) == 224]
SMALL = [name for name in model_names() if native_size(name) == 32]
TIMM = ("convnext", "vit")
TOLERANCE = 1e-4


def make_pair(name, size, num_classes):
    """Our network and its reference with random weights."""
    options, theirs = {}, {}
    if name.startswith("vit"):
        options, theirs = {"image_size": size}, {"img_size": size}
    if name in SMALL:
        reference = small_references.make(name, num_classes)
    elif name.startswith(TIMM):
        reference = timm.create_model(name, num_classes=num_classes, **theirs)
    else:
        reference = torchvision.models.get_model(name, num_classes=num_classes)
    model = create_model(name, num_classes, **options)
    return model, bridge.randomise(torch, reference)


def logits_difference(name, size):
    model, reference = make_pair(name, size, num_classes=1000)
    images = bridge.random_images(size)
    variables = bridge.variables_of(reference, model, images)
    with torch.no_grad():
        expected = reference.eval()(bridge.nchw(torch, images)).numpy()
    assert np.isfinite(expected).all()
    assert np.std(expected) > 0.01
    # Not jitted: compiling 152 layers takes longer than running them.
    logits = model.apply(variables, jnp.array(images), train=False)
    return bridge.relative_difference(logits, expected)


@pytest.mark.parametrize("size", [224, 197])
@pytest.mark.parametrize("name", IMAGENET)
def test_logits_of_imagenet_networks(name, size, record_property):
    difference = logits_difference(name, size)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize("size", [32, 64, 37])
@pytest.mark.parametrize("name", SMALL)
def test_logits_of_small_image_networks(name, size, record_property):
    difference = logits_difference(name, size)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE
