"""Normalising by the batch, with a gradient in closed form.

That of autodiff sums three arrays over the batch, in two passes: the gradient, its
product with what is normalised, and that with the gain, which is the first times a
constant. XLA does not know, and on a GPU stores the gradient of the ReLU that follows
in between. In closed form there are two sums and one pass.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.switches import while_set

_one_pass = contextvars.ContextVar("one_pass", default=False)


@contextlib.contextmanager
def statistics_in_one_pass(wanted: bool = True) -> Iterator[None]:
    """Makes batch norms that are traced inside the block read their input once.

    Mean and variance then come from the sums of `d` and `d^2`, `d` being the distance
    from the running mean. An accelerator reads the activations once less, and devices
    exchange both sums together. What is lost grows with the square of the distance of
    the batch's mean from the running one, in standard deviations: at 10 of them, the
    variance is off by less than 1e-4; every step brings it nearer by a tenth.

    Args:
      wanted: Whether to read once. False switches it off inside the block.

    Yields:
      Nothing.
    """
    with while_set(_one_pass, wanted):
        yield


def normalise(
    x: Float[Array, "*n c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    near: Float[Array, " c"],
    epsilon: float,
    dtype: DTypeLike,
) -> tuple[Float[Array, "*n c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalises each channel by the batch (Ioffe and Szegedy 2015, algorithm 1).

    Args:
      x: The batch. It is computed with in float32, if it is narrower.
      scale: The factor of each channel once it is normalised.
      bias: The number that is added then.
      near: A mean that is near the batch's, for `statistics_in_one_pass`.
      epsilon: Small number that is added to the variance.
      dtype: Dtype of the first result.

    Returns:
      The normalised batch, its mean and its biased variance. The statistics have no
      gradient; the first result has one in reverse mode.
    """
    known = near if _one_pass.get() else None
    return _normalise(x, scale, bias, known, epsilon, dtype)


def normalise_by(
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    x: Float[Array, "*n c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    dtype: DTypeLike,
) -> Float[Array, "*n c"]:
    """Normalises each channel by statistics that are known.

    Args:
      mean: The mean of each channel.
      var: The variance of each channel.
      x: The batch. It is computed with in float32, if it is narrower.
      scale: The factor of each channel once it is normalised.
      bias: The number that is added then.
      epsilon: Small number that is added to the variance.
      dtype: Dtype of the result.

    Returns:
      The result, of the shape of `x`.
    """
    gain = scale * jax.lax.rsqrt(var + epsilon)
    return ((_wide(x) - mean) * gain + bias).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise(
    x: Array,
    scale: Array,
    bias: Array,
    near: Array | None,
    epsilon: float,
    dtype: DTypeLike,
) -> tuple[Array, Array, Array]:
    return _forward(x, scale, bias, near, epsilon, dtype)[0]


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    near: Array | None,
    epsilon: float,
    dtype: DTypeLike,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    mean, var = _moments(_wide(x), near)
    y = normalise_by(mean, var, x, scale, bias, epsilon, dtype)
    return (y, mean, var), (x, scale, mean, jax.lax.rsqrt(var + epsilon))


def _backward(
    epsilon: float,
    dtype: DTypeLike,
    kept: tuple[Array, Array, Array, Array],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, None]:
    x, scale, mean, inverse = kept
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    of_y = gradients[0].astype(mean.dtype)
    distance = _wide(x) - mean
    of_bias, of_gain = jnp.sum(of_y, axes), jnp.sum(of_y * distance, axes)
    # Per channel first, so that the batch is multiplied by as few numbers as can be.
    gain = scale * inverse
    slope = gain * jnp.square(inverse) * of_gain / count
    of_x = of_y * gain - distance * slope - gain * of_bias / count
    return (
        of_x.astype(x.dtype),
        (of_gain * inverse).astype(scale.dtype),
        of_bias.astype(scale.dtype),
        None,
    )


_normalise.defvjp(_forward, _backward)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moments(x: Array, near: Array | None) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, in one pass near a mean."""
    axes = tuple(range(x.ndim - 1))
    if near is None:
        # Two passes over x. E[x^2] - E[x]^2 would lose its digits, and could even be
        # negative, where the mean is far from 0.
        mean = jnp.mean(x, axes)
        return mean, jnp.mean(jnp.square(x - mean), axes)
    distance = x - near
    first = jnp.mean(distance, axes)
    second = jnp.mean(jnp.square(distance), axes)
    return near + first, jnp.maximum(second - jnp.square(first), 0.0)
