"""The GELU is its definition, in values and gradients, and in bfloat16 rounds once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from clonalnet_jax.models.layers import gelu

POINTS = np.concatenate([np.linspace(-8, 8, 161), [-1e30, -30.0, 1e-30, 30.0, 1e30]])


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [
        (np.float64, 1e-14, 1e-15),
        (np.float32, 1e-6, 1e-6),
        # Half of the last digit, and that of 1 + erf in float32.
        (jnp.bfloat16, 2**-8, 1e-6),
    ],
)
def test_definition(dtype, rtol, atol):
    with jax.enable_x64(dtype is np.float64):
        points = jnp.asarray(POINTS, dtype)
        found = gelu(points)
        assert found.dtype == dtype
        exact = np.asarray(points, np.float64)
        # By the complement, which keeps its digits where x is negative.
        expected = [0.5 * x * math.erfc(-x / math.sqrt(2)) for x in exact]
        np.testing.assert_allclose(
            np.asarray(found, np.float64), expected, rtol=rtol, atol=atol
        )


def test_gradient():
    with jax.enable_x64(True):
        check_grads(gelu, (jnp.linspace(-6, 6, 49),), order=2, rtol=1e-5)


@pytest.mark.parametrize("x", [-1e30, -30.0, 0.0, 30.0, 1e30])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_is_finite_far_away(x, dtype):
    """It is 0 and 1 there, not 0 times infinity."""
    found = jax.grad(gelu)(jnp.asarray(x, dtype))
    assert found == {-1.0: 0.0, 0.0: 0.5, 1.0: 1.0}[float(np.sign(x))]
