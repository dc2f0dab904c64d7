"""Code that forbids JAX to promote dtypes and ranks can use the losses, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clonalnet_jax as cn
from tests.losses.reference import LOSSES
from tests.marks import quickly

FUNCTIONS = {
    **LOSSES,
    "known_sets": lambda z, b, y: cn.focusing_picking_loss(
        z, b, y, confusing=cn.confusing_categories(b)
    ),
    "warm_labels": lambda z, b, y: jnp.sum(
        z.astype(jnp.float32) * cn.multi_warm_labels(b, y), axis=-1
    ),
}
DTYPES = ("ff", "bb", "fb")
NAMES = {"f": jnp.float32, "b": jnp.bfloat16}
SHAPES = [(2, 3, 10), (4096, 1000)]  # The last is computed in blocks of rows.


@pytest.mark.parametrize("name", quickly(FUNCTIONS, ("focusing_picking", "decoupled")))
@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("soft", [False, True])
def test_nothing_is_promoted(name, dtypes, soft):
    def gradient(z, b, y):
        return jax.grad(lambda z: FUNCTIONS[name](z, b, y).mean())(z)

    for shape in SHAPES:
        z, b = (jax.ShapeDtypeStruct(shape, NAMES[dtype]) for dtype in dtypes)
        integers = jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            found = jax.eval_shape(gradient, z, b, b if soft else integers)
        assert (found.shape, found.dtype) == (z.shape, z.dtype)


def test_the_values_are_the_same():
    rng = np.random.default_rng(0)
    z, b = (jnp.asarray(rng.normal(size=(6, 10)), jnp.bfloat16) for _ in range(2))
    y = jnp.arange(6)
    for loss in FUNCTIONS.values():
        free = loss(z, b, y)
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            np.testing.assert_array_equal(loss(z, b, y), free)
