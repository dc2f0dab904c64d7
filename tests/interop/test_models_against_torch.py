"""Our networks and the references in PyTorch: the same numbers, live."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_bridge as bridge
from clonalnet_jax.configs import default

from clonalnet_jax.models import create_model
from clonalnet_jax.state import TrainState
from clonalnet_jax.training import steps
from clonalnet_jax.training.optimizers import make_optimizer
from clonalnet_jax.weights import to_torch

torch, torchvision, _ = bridge.import_torch()
import torch_pairs as pairs  # noqa: E402 - it needs torch, so only behind the skip
from torch.nn import functional as F  # noqa: E402

from benchmarks import torch_networks  # noqa: E402

# One of each, for sizes that strides do not divide.
FAMILIES = (
    *("resnet18", "resnet50", "mobilenet_v2", "convnext_tiny", "mobilenet_v3_large"),
    *("efficientnet_b1", "efficientnet_v2_s", "regnet_y_1_6gf", "densenet121"),
    *("vgg16_bn", "swin_t"),
)
TOLERANCE = 1e-4
# Networks with so many gates that images hardly matter under random statistics.
GATED = ("mobilenet_v3", "efficientnet")


def evaluate(model, variables, images):
    """Logits of our network."""
    return jax.jit(partial(model.apply, train=False))(variables, images)


def logits_difference(name, sizes):
    """The largest over images of these sizes."""
    model, reference = pairs.make_pair(name, sizes[0], num_classes=1000)
    bridge.randomise(torch, reference)
    batches = [bridge.random_images(size) for size in sizes]
    if name.startswith(GATED):
        bridge.settle(torch, reference, batches[0])
    reference.eval()
    variables = bridge.variables_of(reference, model, batches[0])
    # And back, bit for bit: every tensor of the reference is there and no other.
    state = {name: x.numpy() for name, x in reference.state_dict().items()}
    back = dict(to_torch(variables))
    assert back.keys() == state.keys()
    assert not [name for name in state if not np.array_equal(back[name], state[name])]
    differences = []
    for images in batches:
        with torch.no_grad():
            expected = reference(bridge.nchw(torch, images)).numpy()
        # They must matter by more than is tolerated, or agreement would say little.
        assert np.ptp(expected, 0).max() > 10 * TOLERANCE * np.abs(expected).max()
        logits = evaluate(model, variables, images)
        differences.append(bridge.relative_difference(logits, expected))
    return max(differences)


@pytest.mark.parametrize("name", pairs.IMAGENET)
def test_logits_of_imagenet_networks(name, record_property):
    sizes = (224, 197) if name in FAMILIES else (224,)
    difference = logits_difference(name, sizes)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize("name", pairs.SMALL)
def test_logits_of_small_image_networks(name, record_property):
    # The one network with a rule of its own for Tiny-ImageNet's size.
    sizes = (32, 37, 64) if name == "vgg8" else (32, 37)
    difference = logits_difference(name, sizes)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE


class Pooled(torch_networks.CifarResNet):
    """A small stem with max pooling (huyvnphan's PyTorch_CIFAR10)."""

    def forward(self, x):
        """Images to logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for layer in self.layers:
            x = getattr(self, layer)(x)
        return self.fc(x.mean((2, 3)))


class Padding(torch.nn.Module):
    """Shortcut A (akamaster's pytorch_resnet_cifar10)."""

    def forward(self, x):
        """Half the pixels of each axis, and twice the channels."""
        added = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added, added))


def padded(network):
    """The network with shortcuts A."""
    for layer in ("layer2", "layer3"):
        getattr(network, layer)[0].downsample = Padding()
    return network


OPTIONAL = {
    "pooled_stem": ("resnet18_small", Pooled([2] * 4, (64, 64, 128, 256, 512), 10)),
    "padded_shortcuts": ("resnet14", padded(torch_networks.make("resnet14", 10))),
}


@pytest.mark.parametrize("option", OPTIONAL)
@pytest.mark.parametrize("size", [32, 37])
def test_logits_of_optional_shapes(option, size):
    name, reference = OPTIONAL[option]
    bridge.randomise(torch, reference)
    model = create_model(name, 10, **{option: True})
    images = bridge.random_images(size)
    variables = bridge.variables_of(reference, model, images)
    with torch.no_grad():
        expected = reference.eval()(bridge.nchw(torch, images)).numpy()
    logits = evaluate(model, variables, images)
    assert bridge.relative_difference(logits, expected) < TOLERANCE
    # The option matters: without it, the same images have other logits.
    if option == "pooled_stem":
        plain = evaluate(create_model(name, 10), variables, images)
        assert bridge.relative_difference(plain, expected) > 100 * TOLERANCE


RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01


def torch_steps(reference, batches):
    """The reference after SGD on each batch."""
    optimizer = torch.optim.SGD(
        reference.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY
    )
    reference.train()
    for module in reference.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
    for batch in batches:
        logits = reference(bridge.nchw(torch, batch["image"]))
        labels = torch.from_numpy(batch["label"]).long()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()


def our_steps(model, variables, batches):
    """The variables after the program's own train step on each batch."""
    config = default.get_config().optimizer
    config.momentum, config.weight_decay, config.nesterov = MOMENTUM, DECAY, False
    optimizer = make_optimizer(config, optax.constant_schedule(RATE))

    def loss_fn(logits, baseline_logits, labels, epoch):
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {"loss": loss}

    def prepare(batch, key):
        return batch["image"], batch["label"]

    train_step = jax.jit(steps.make_train_step(model, optimizer, loss_fn, prepare))
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )
    for batch in batches:
        state, _ = train_step(state, None, batch, jax.random.key(0))
    return {k: v for k, v in state.variables.items() if v}


def largest_difference(ours, theirs):
    """Over all tensors, each relative to its own largest value."""
    return max(jax.tree.leaves(jax.tree.map(bridge.relative_difference, ours, theirs)))


@pytest.mark.parametrize("name", pairs.KINDS)
def test_sgd_gives_the_same_network(name, record_property):
    # In float64: where float32 rounds a value across a ReLU's kink, its gradient
    # differs by as much as it is, and that says nothing about the definitions.
    with jax.enable_x64(True):
        model, reference = pairs.make_shallow_pair(name, num_classes=10)
        model = model.clone(dtype=jnp.float64)
        bridge.randomise(torch, reference).double()
        rng = np.random.default_rng(0)
        # XLA takes long for grouped convolutions in float64, of which these are full.
        side = 16 if name.startswith(("shufflenet", "mobilenet_v2_half")) else 32
        batches = [
            {
                "image": rng.standard_normal((4, side, side, 3)),
                "label": rng.integers(10, size=4, dtype=np.int32),
            }
            # The momentum counts from the second step on. It is the same for all.
            for _ in range(2 if name.startswith("resnet") else 1)
        ]
        start = bridge.variables_of(reference, model, batches[0]["image"])
        ours = our_steps(model, start, batches)
        torch_steps(reference, batches)
        theirs = bridge.variables_of(reference, model, batches[0]["image"])
        off = largest_difference(ours, theirs)
        moved = largest_difference(start, theirs)
    record_property("relative_difference", off)
    # Weights that hardly moved would agree in any case.
    assert moved > 0.01
    assert off < 1e-6
