"""Names that others gave to the same tensors."""

import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.spellings import respell

OURS = ("conv1.weight", "layer1.0.downsample.0.weight", "fc.weight", "fc.bias")
BLOCKS = tuple(
    f"layer{stage}.{index}.conv1.{leaf}.weight"
    for stage in (1, 2)
    for index in range(11)
    for leaf in ("depthwise", "pointwise")
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("fc.weight", "fc.weight"),
        ("linear.weight", "fc.weight"),
        ("linear.bias", "fc.bias"),
        ("layer1.0.shortcut.0.weight", "layer1.0.downsample.0.weight"),
        # What the network does not have in our spelling either keeps its name.
        ("layer9.0.shortcut.0.weight", "layer9.0.shortcut.0.weight"),
        ("nonlinear.weight", "nonlinear.weight"),
    ],
)
def test_other_spellings_are_the_networks(theirs, ours):
    assert respell([theirs], OURS, source="a")[0] == {theirs: ours}


def test_blocks_that_are_counted_through_are_those_of_the_stages():
    theirs = {
        "layers.0.conv1.dynamic_pool.weight": "layer1.0.conv1.depthwise.weight",
        "layers.10.conv1.conv.weight": "layer1.10.conv1.pointwise.weight",
        "layers.11.conv1.conv.weight": "layer2.0.conv1.pointwise.weight",
        "layers.21.conv1.conv.weight": "layer2.10.conv1.pointwise.weight",
        "layers.22.conv1.conv.weight": "layers.22.conv1.conv.weight",
    }
    assert respell(theirs, BLOCKS, source="a")[0] == theirs


def test_a_network_that_calls_it_linear_keeps_it():
    assert respell(["linear.weight"], ["linear.weight"], source="a") == (
        {"linear.weight": "linear.weight"},
        [],
    )


def test_the_spellings_that_were_used_are_said():
    names = ["conv1.weight", "linear.bias", "linear.weight"]
    assert respell(names, OURS, source="a")[1] == ["'linear' is 'fc'"]


def test_two_tensors_for_one_are_refused():
    with pytest.raises(UserError, match=r"linear\.weight and fc\.weight"):
        respell(["fc.weight", "linear.weight"], OURS, source="net.pth")
