"""Our networks and the references in PyTorch: the same numbers, live."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_bridge as bridge

from clonalnet_jax import steps
from clonalnet_jax.models import create_model, model_names, native_size
from clonalnet_jax.optimizers import make_optimizer
from clonalnet_jax.state import TrainState
from configs import default

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
    # The images must matter, or agreement would say little.
    assert np.ptp(expected, axis=0).max() > 0.05 * np.abs(expected).max()
    # Not jitted: compiling 152 layers takes longer than running them.
    logits = model.apply(variables, jnp.array(images), train=False)
    return bridge.relative_difference(logits, expected)


@pytest.mark.parametrize("size", [224, 197])
@pytest.mark.parametrize("name", IMAGENET)
def test_logits_of_imagenet_networks(name, size, record_property):
    difference = logits_difference(name, size)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in SMALL for size in (32, 37)]
    # The one network with a rule of its own for Tiny-ImageNet's size.
    + [("vgg8", 64)],
)
def test_logits_of_small_image_networks(name, size, record_property):
    difference = logits_difference(name, size)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE


# One network of each kind of block; dropout and stochastic depth are 0.
TRAINED = (
    *("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "convnext_tiny"),
    *("vit_small_patch16_224", "resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2_half"),
    *("shufflenet_v1", "shufflenet_v2"),
)
RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01


def torch_steps(reference, batches):
    """The reference after SGD on each batch."""
    optimizer = torch.optim.SGD(
        reference.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY
    )
    reference.train()
    for module in reference.modules():
        if isinstance(module, torch.nn.Dropout):
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

    def loss_fn(logits, baseline_logits, labels):
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {"loss": loss}

    def prepare(batch, key):
        return batch["image"]

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


def train_differences(name, num_steps):
    """Differences of the variables and of how far they moved."""
    size = 32 if name in SMALL else 64
    model, reference = make_pair(name, size, num_classes=10)
    rng = np.random.default_rng(0)
    batches = [
        {
            "image": bridge.random_images(size, batch=8, seed=step),
            "label": rng.integers(10, size=8, dtype=np.int32),
        }
        for step in range(num_steps)
    ]
    start = bridge.variables_of(reference, model, batches[0]["image"])
    ours = our_steps(model, start, batches)
    torch_steps(reference, batches)
    theirs = bridge.variables_of(reference, model, batches[0]["image"])
    moved = jax.tree.map(jnp.subtract, theirs, start)
    off = jax.tree.map(jnp.subtract, theirs, ours)
    return largest_difference(ours, theirs), optax.tree.norm(off) / optax.tree.norm(
        moved
    )


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_of_sgd_gives_the_same_network(name, record_property):
    difference, share_of_the_update = train_differences(name, num_steps=1)
    record_property("relative_difference", difference)
    assert difference < TOLERANCE
    # Weights that hardly moved agree in any case; the update itself has to.
    assert share_of_the_update < 1e-3
