"""Classes that are split over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from clonalnet_jax.losses import confusing_categories, focusing_picking_loss
from tests.losses.reference import make_example, value_and_gradient
from tests.marks import quickly

SPLIT, WHOLE = PartitionSpec(None, "model"), PartitionSpec()
LOSS = functools.partial(focusing_picking_loss, class_axis="model")


def over_four_devices(function, in_specs, out_specs=WHOLE, **kwargs):
    mesh = Mesh(jax.devices()[:4], ("model",))
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **kwargs
    )


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_classes_may_be_split_over_devices(rng, soft):
    z, b, labels, _ = make_example(rng, (6, 40), soft=soft)
    arguments = jnp.asarray(z), jnp.asarray(b), jnp.asarray(labels)
    specs = (SPLIT, SPLIT, SPLIT if soft else WHOLE)
    sharded = jax.jit(over_four_devices(LOSS, specs))
    within = over_four_devices(
        functools.partial(value_and_gradient, loss=LOSS), specs, (WHOLE, SPLIT)
    )
    expected = value_and_gradient(*arguments)
    outside = value_and_gradient(*arguments, loss=sharded)
    for actual in (outside, jax.jit(within)(*arguments)):
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_labels_that_are_split_have_the_gradient_of_whole_ones(rng):
    z, b, _, y = (jnp.asarray(x) for x in make_example(rng, (6, 40), soft=True))

    def of_labels(y, z, b, loss=focusing_picking_loss):
        return jax.grad(lambda y: loss(z, b, y).sum())(y)

    within = over_four_devices(
        functools.partial(of_labels, loss=LOSS), (SPLIT,) * 3, SPLIT
    )
    np.testing.assert_allclose(
        jax.jit(within)(y, z, b), of_labels(y, z, b), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("soft", quickly((False, True), (True,)))
def test_a_known_set_may_be_split_too(rng, soft):
    z, b, labels, _ = make_example(rng, (6, 40), soft=soft)
    specs = (SPLIT, SPLIT, SPLIT if soft else WHOLE, SPLIT)

    def loss(z, b, labels, own):
        return LOSS(z, b, labels, confusing=own)

    own = confusing_categories(b)
    value = jax.jit(over_four_devices(loss, specs))(z, 0 * b, labels, own)
    expected = focusing_picking_loss(z, 0 * b, labels, confusing=own)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_split_classes_that_jax_does_not_know_of_are_refused(rng):
    z, b, labels, _ = make_example(rng, (2, 8))
    loss = over_four_devices(LOSS, (SPLIT, SPLIT, WHOLE), check_vma=False)
    with pytest.raises(ValueError, match="check_vma"):
        loss(jnp.asarray(z), jnp.asarray(b), jnp.asarray(labels))


def test_a_label_out_of_range_is_seen_on_every_device(rng):
    z, b, _, _ = make_example(rng, (2, 8))
    loss = over_four_devices(LOSS, (SPLIT, SPLIT, WHOLE))
    values = jax.jit(loss)(jnp.asarray(z), jnp.asarray(b), jnp.asarray([7, 8]))
    np.testing.assert_array_equal(np.isnan(values), [False, True])
