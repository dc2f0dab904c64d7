"""PyTorch beside JAX: imports without warnings, weights across, inputs for both."""

import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import torch_reference
from clonalnet_jax.weights import from_torch


def import_torch():
    """Torch, torchvision and timm; skips the calling test module where one lacks."""
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("needs the extra [interop]", allow_module_level=True)
    torch, torchvision = torch_reference.import_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm = pytest.importorskip("timm", reason="needs the extra [interop]")
    torch.set_num_threads(2)
    return torch, torchvision, timm


def randomise(torch, module, seed=0):
    """Weights that leave no term at 0 or 1, and running statistics that are not."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.data.uniform_(low, high, generator=generator)

    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            uniform(tensor, 0.5, 1.5)
        elif name.endswith("running_mean"):
            uniform(tensor, -0.3, 0.3)
        elif name.endswith("gamma") or (name.endswith("weight") and tensor.ndim == 1):
            uniform(tensor, 0.7, 1.3)
        elif tensor.ndim == 1:
            uniform(tensor, -0.2, 0.2)
        elif tensor.ndim > 1:
            fan_in = tensor[0].numel() if "weight" in name else 25
            tensor.data.normal_(0, fan_in**-0.5, generator=generator)
    return module


def settle(torch, module, images):
    """Gives running statistics of these images, or deep networks blur them out."""
    norms = [x for x in module.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(nchw(torch, images))
    for norm in norms:
        norm.num_batches_tracked.zero_()  # Flax counts none: 0 is what comes back


def variables_of(reference, model, images):
    """A reference's weights as variables of our network; every tensor is used once."""
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    state = {name: x.detach().numpy() for name, x in reference.state_dict().items()}
    return jax.tree.map(jnp.array, from_torch(state, shapes, source="the reference"))


def random_images(size, *, batch=2):
    """Images as NHWC float32."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, size, size, 3)).astype(np.float32)


def nchw(torch, images):
    """Images as PyTorch takes them."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def relative_difference(ours, theirs):
    """The largest difference over the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
