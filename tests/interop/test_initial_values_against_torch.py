"""Initial values: every tensor is drawn as the reference draws it."""

import jax
import numpy as np
import pytest
import torch_bridge as bridge

from clonalnet_jax.models.resnet import ResNet
from clonalnet_jax.weights import from_torch

torch, torchvision, _ = bridge.import_torch()
import torch_pairs as pairs  # noqa: E402 - it needs torch, so only behind the skip

CLASSES, SEEDS = 200, 4
MOST = 20_000  # values of a tensor that are looked at
# The definitions that share blocks but have another reference.
NETWORKS = (*pairs.KINDS, "resnet8", "resnet18_small")
# What is left different on purpose: network, tensor and the reason. Nothing is.
ON_PURPOSE: dict[tuple[str, str], str] = {}
# Standard errors by which a figure of two samples may differ, of thousands compared.
ERRORS = 5.0


def tensors(variables):
    """The values of each tensor by its name, in one row; of large ones, evenly some."""
    flat = jax.tree_util.tree_leaves_with_path(variables)
    rows = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.ravel(leaf)
        for path, leaf in flat
    }
    return {name: row[:: 1 + len(row) // MOST] for name, row in rows.items()}


def samples(model, make_reference):
    """The values of every tensor of ours and of the reference, over several seeds."""
    images = np.zeros((1, 32, 32, 3), np.float32)

    def init(key):
        return model.init(key, images, train=False)

    draw, shapes = jax.jit(init), jax.eval_shape(init, jax.random.key(0))
    ours, theirs = [], []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        state = make_reference().state_dict()
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        theirs.append(tensors(from_torch(arrays, shapes, source="the reference")))
        ours.append(tensors(draw(jax.random.key(seed))))
    return pooled(ours), pooled(theirs)


def pooled(draws):
    """The values of each tensor over all seeds, as float64."""
    return {
        name: np.concatenate([draw[name] for draw in draws]).astype(np.float64)
        for name in draws[0]
    }


def difference(ours, theirs):
    """Says what tells two samples apart by more than luck; None where nothing does."""
    if np.ptp(theirs) == 0:
        same = np.ptp(ours) == 0 and ours[0] == np.float32(theirs[0])
        return None if same else f"a constant {theirs[0]}, not std {ours.std():.3g}"
    # Over the standard deviation of one value. That of the spread itself is of a
    # normal distribution; a uniform one's is smaller.
    error = ERRORS * theirs.std() * (2 / len(theirs)) ** 0.5
    figures = {
        "mean": (np.mean, 1.0),
        "standard deviation": (np.std, 2**-0.5),
        "mean size": (lambda x: np.abs(x).mean(), 0.603),  # normal is not uniform
    }
    for what, (figure, scale) in figures.items():
        if abs(figure(ours) - figure(theirs)) > scale * error:
            return f"{what} {figure(ours):.4g}, not {figure(theirs):.4g}"
    return None


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_starts_as_in_the_reference(name):
    model, _ = pairs.make_shallow_pair(name, CLASSES)
    ours, theirs = samples(model, lambda: pairs.make_shallow_pair(name, CLASSES)[1])
    assert ours.keys() == theirs.keys()
    found = {
        (name, tensor): text
        for tensor in ours
        if (text := difference(ours[tensor], theirs[tensor]))
    }
    assert found.keys() == {key for key in ON_PURPOSE if key[0] == name}, found


def test_a_residual_branch_can_start_as_zero_as_in_the_reference():
    def make_reference():
        block = torchvision.models.resnet.BasicBlock
        return torchvision.models.ResNet(block, [1] * 4, zero_init_residual=True)

    model = ResNet((1,) * 4, num_classes=1000, zero_init_residual=True)
    ours, theirs = samples(model, make_reference)
    assert not theirs["params.layer1_0.bn2.scale"].any()
    assert not any(difference(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("scale", [0.88, 1.12])
def test_the_comparison_would_see_twelve_percent(scale, rng):
    values = rng.standard_normal((2, 10_000))
    assert difference(*values) is None
    assert "standard deviation" in difference(scale * values[0], values[1])


def test_the_comparison_tells_shapes_and_constants_apart(rng):
    normal = rng.standard_normal(10_000)
    uniform = rng.uniform(-(3**0.5), 3**0.5, 10_000)
    assert "mean size" in difference(uniform, normal)
    assert "constant" in difference(normal, np.zeros(10_000))
    assert "standard deviation" in difference(np.zeros(10_000), normal)
