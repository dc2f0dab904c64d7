"""Arrays whose types say how they are split: `jax.set_mesh` with explicit axes."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import clonalnet_jax as cn
from tests.losses.reference import LOSSES, make_example
from tests.marks import quickly

BY_EXAMPLE, BY_BOTH = PartitionSpec("data", None), PartitionSpec("data", "model")
EXPLICIT = (AxisType.Explicit,) * 2
SHAPES = {BY_EXAMPLE: (4, 1), BY_BOTH: (2, 2)}


@pytest.mark.parametrize("split", SHAPES, ids=["examples", "examples and classes"])
@pytest.mark.parametrize("name", quickly(LOSSES, ("focusing_picking",)))
def test_value_and_gradient_are_those_of_whole_arrays(rng, name, split):
    z, b, y, _ = make_example(rng, (8, 12), soft=False)
    both = jax.jit(jax.value_and_grad(lambda z, b, y: LOSSES[name](z, b, y).mean()))
    value, gradient = both(z, b, y)
    mesh = jax.make_mesh(SHAPES[split], ("data", "model"), axis_types=EXPLICIT)
    with jax.set_mesh(mesh):
        put = partial(jax.device_put, device=NamedSharding(mesh, split))
        whole, slopes = both(put(z), put(b), y)
        assert jax.typeof(slopes).sharding.spec == split
    np.testing.assert_allclose(whole, value, rtol=1e-5)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("split", SHAPES, ids=["examples", "examples and classes"])
def test_confusing_categories_are_those_of_whole_arrays(rng, split):
    _, b, _, _ = make_example(rng, (8, 12), soft=False)
    mesh = jax.make_mesh(SHAPES[split], ("data", "model"), axis_types=EXPLICIT)
    with jax.set_mesh(mesh):
        logits = jax.device_put(b, NamedSharding(mesh, split))
        confusing = jax.jit(cn.confusing_categories)(logits)
        assert jax.typeof(confusing).sharding.spec == split
    np.testing.assert_array_equal(confusing, cn.confusing_categories(b))
