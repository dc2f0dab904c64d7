"""docs/reuse.md: every block runs, and its step is that of the loss's definition."""

import math
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clonalnet_jax.losses import focusing_picking_loss, focusing_picking_terms
from tests.losses.reference import finite_differences, reference_loss

ROOT = Path(__file__).parent.parent.parent
LEARNING_RATE = 0.5
BLOCKS = dict(
    re.findall(
        r"^## ([^\n]*)\n(?:(?!^#).)*?^```python\n(.*?)^```",
        (ROOT / "docs" / "reuse.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)


def run_block(title):
    """What the block under this title has defined."""
    names: dict = {"__name__": "reuse"}
    exec(compile(BLOCKS[title], f"docs/reuse.md, {title}", "exec"), names)
    return names


def trained_block(title):
    """The same of a block that has taken some steps, after which the loss is less."""
    names = run_block(title)
    assert np.isfinite(names["losses"]).all()
    assert names["losses"][-1] < 0.8 * names["losses"][0]
    return names


def reference_step(clone, baseline, images, labels):
    """The loss and the clone after a step of SGD, in plain JAX on one device."""

    def loss_fn(clone):
        logits = [images @ kernel + bias for kernel, bias in (clone, baseline)]
        return focusing_picking_loss(*logits, labels).mean()

    loss, grads = jax.jit(jax.value_and_grad(loss_fn))(clone)
    return loss, [x - LEARNING_RATE * g for x, g in zip(clone, grads, strict=True)]


def assert_step_equals(step, reference):
    loss, clone = step
    np.testing.assert_allclose(loss, reference[0], rtol=1e-5)
    for actual, expected in zip(clone, reference[1], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def kernel_and_bias(params):
    return [jnp.array(params["kernel"]), jnp.array(params["bias"])]


def largest_exchange(compiled):
    """The most elements that one array between devices has, of a sum or otherwise."""
    exchanges = re.findall(
        r"= (.*?) (?:all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(",
        compiled.as_text(),
    )
    shapes = re.findall(r"\w+\[([\d,]*)\]", " ".join(exchanges))
    return max(math.prod(map(int, filter(None, x.split(",")))) for x in shapes)


def test_every_block_of_the_page_is_run_here():
    assert len(BLOCKS) == (ROOT / "docs" / "reuse.md").read_text().count("```python")
    source = Path(__file__).read_text()
    assert [x for x in BLOCKS if f'_block("{x}")' not in source] == []


def test_plain_jax_takes_the_step_of_the_definition_on_any_devices():
    names = trained_block("Plain JAX")
    images, labels = names["images"][:8], names["labels"][:8]
    clone, baseline = names["clone"], names["baseline"]
    logits = [names["network"](x, images) for x in (clone, baseline)]
    z, b = (np.asarray(x, np.float64) for x in logits)
    y = np.eye(10)[labels]
    gradient = finite_differences(lambda z: reference_loss(z, b, y), z) / 8
    expected = (
        reference_loss(z, b, y).mean(),
        [
            clone["kernel"] - LEARNING_RATE * images.T @ gradient,
            clone["bias"] - LEARNING_RATE * gradient.sum(axis=0),
        ],
    )
    rows = NamedSharding(Mesh(jax.devices(), ("data",)), PartitionSpec("data"))
    for batch in ((images, labels), jax.device_put((images, labels), rows)):
        after, _, loss = names["train_step"](
            clone, names["opt_state"], baseline, *batch
        )
        assert_step_equals((loss, kernel_and_bias(after)), expected)
    predictions = names["network"](clone, names["images"]).argmax(axis=-1)
    assert (predictions == names["labels"]).mean() > 0.9


def test_flax_nnx_takes_the_same_step():
    names = trained_block("Flax NNX")
    clone, baseline = names["clone"], names["baseline"]
    before, frozen = (kernel_and_bias(nnx.state(x)) for x in (clone, baseline))
    batch = names["images"], names["labels"]
    loss = names["train_step"](clone, names["optimizer"], baseline, *batch)
    step = loss, kernel_and_bias(nnx.state(clone))
    assert_step_equals(step, reference_step(before, frozen, *batch))


@pytest.mark.slow
def test_equinox_takes_the_same_step():
    names = trained_block("Equinox")
    batch = names["images"], names["labels"]
    clone, baseline = (
        [x.weight.T, x.bias] for x in (names["clone"], names["baseline"])
    )
    after, _, loss = names["train_step"](
        names["clone"], names["opt_state"], names["baseline"], *batch
    )
    assert eqx.is_array(after.weight)
    step = loss, [after.weight.T, after.bias]
    assert_step_equals(step, reference_step(clone, baseline, *batch))


@pytest.mark.slow
def test_haiku_takes_the_same_step():
    names = trained_block("Haiku")
    batch = names["images"], names["labels"]
    arguments = names["clone"], names["opt_state"], names["baseline"]
    after, _, loss = names["train_step"](*arguments, *batch)
    clone, baseline, after = (
        [x["linear"]["w"], x["linear"]["b"]]
        for x in (names["clone"], names["baseline"], after)
    )
    assert_step_equals((loss, after), reference_step(clone, baseline, *batch))


@pytest.mark.slow
def test_devices_under_pmap_take_the_step_of_the_whole_batch():
    names = trained_block("Under `pmap`")
    assert names["devices"] == 8
    batch = names["images"], names["labels"]
    arguments = names["clone"], names["opt_state"], names["baseline"]
    after, _, loss = names["train_step"](*arguments, *batch)
    clone, baseline = (
        [x[0] for x in kernel_and_bias(params)]
        for params in (names["clone"], names["baseline"])
    )
    whole = batch[0].reshape(-1, 64), batch[1].reshape(-1)
    expected = reference_step(clone, baseline, *whole)
    for device in range(8):
        step = loss[device], [x[device] for x in kernel_and_bias(after)]
        assert_step_equals(step, expected)


@pytest.mark.slow
def test_split_classes_take_the_step_of_whole_ones():
    names = trained_block("Under `shard_map`, the classes split")
    arguments = [names[x] for x in ("clone", "baseline", "features", "labels")]
    clone, baseline, features, labels = arguments
    assert {x.data.shape for x in clone.addressable_shards} == {(64, 250)}
    zero = jnp.zeros(())
    expected = reference_step([clone, zero], [baseline, zero], features, labels)
    compiled = names["train_step"].lower(*arguments).compile()
    # Logits stay where they are; the batch's devices add up the gradient of their
    # columns of the last layer.
    assert largest_exchange(compiled) == 64 * 250 < 128 * 250
    after, loss = names["train_step"](*arguments)
    assert_step_equals((loss, [after]), (expected[0], expected[1][:1]))
    np.testing.assert_allclose(
        jax.jit(names["loss_per_example"])(*arguments),
        jax.jit(focusing_picking_loss)(features @ clone, features @ baseline, labels),
        rtol=1e-5,
    )


@pytest.mark.slow
def test_soft_labels_take_the_step_of_the_definition():
    names = trained_block("Soft labels: mixup")
    key = jax.random.key(5)
    images, soft = names["mixup"](key, names["images"], names["labels"])
    assert (np.sum(soft > 0.01, axis=-1) == 2).any()
    clone, baseline = names["clone"], names["baseline"]
    z, b = (np.asarray(names["network"](x, images)) for x in (clone, baseline))
    after, _, loss = names["train_step"](
        clone, names["opt_state"], baseline, images, soft
    )
    np.testing.assert_allclose(loss, reference_loss(z, b, soft).mean(), rtol=1e-5)
    arguments = kernel_and_bias(clone), kernel_and_bias(baseline), images, soft
    assert_step_equals((loss, kernel_and_bias(after)), reference_step(*arguments))


def test_labels_that_are_smooth_already_smooth_the_attention_too(rng):
    z, b = rng.normal(size=(2, 4, 10)).astype(np.float32)
    labels = np.full(4, 3)
    smooth = np.full((4, 10), 0.01, np.float32)
    smooth[:, 3] = 0.91
    each = [focusing_picking_terms(z, b, np.full(4, k)).attention for k in range(10)]
    attention = focusing_picking_terms(z, b, smooth).attention
    expected = 0.9 * each[3] + 0.1 * np.mean(each, axis=0)
    np.testing.assert_allclose(attention, expected, rtol=1e-5)
    sharp = focusing_picking_terms(z, b, labels).attention
    assert np.abs(attention - sharp).max() > 1e-3


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_loss_costs_what_the_page_says(rng, dtype):
    z, b = jnp.asarray(rng.normal(size=(2, 6, 1000)), dtype)
    labels = jnp.arange(6)

    @jax.jit
    def forward(z, b):
        return jax.vjp(lambda z, b: focusing_picking_loss(z, b, labels), z, b)

    loss, vjp = forward(z, b)
    assert loss.dtype == jnp.float32
    assert loss.shape == (6,)
    of_clone, of_baseline = jax.jit(vjp)(jnp.ones_like(loss))
    assert of_clone.dtype == dtype
    assert not of_baseline.any()
    kept = jax.tree.leaves(vjp)
    assert [x.dtype for x in kept if x.size == z.size] == [dtype] * 2
    few = sum(x.size for x in kept if x.size != z.size)
    assert few < 20 * labels.size
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda z: focusing_picking_loss(z, b, labels), (z,), (z,))


def test_whole_classes_under_jit_are_split_by_xla():
    mesh = Mesh(np.reshape(jax.devices(), (2, -1)), ("data", "classes"))
    logits = jax.ShapeDtypeStruct(
        (32, 1000),
        jnp.float32,
        sharding=NamedSharding(mesh, PartitionSpec(*mesh.axis_names)),
    )
    labels = jax.ShapeDtypeStruct(
        (32,), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec("data"))
    )

    def loss_fn(clone_logits, baseline_logits, labels):
        return focusing_picking_loss(clone_logits, baseline_logits, labels).mean()

    step = jax.jit(jax.grad(loss_fn)).lower(logits, logits, labels)
    assert largest_exchange(step.compile()) == 32 // 2
