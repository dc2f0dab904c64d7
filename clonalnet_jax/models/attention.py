"""Self-attention (Vaswani et al. 2017), in two forms that compute the same.

Its gradient is in closed form, as that of FlashAttention (Dao et al. 2022, appendix
B.2). Autodiff sums the products of all weights with their gradients, query by query,
and on a GPU computes the gradient of the scores twice. The same sum is that of the
averages' products with their gradient, of which there are fewer.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from clonalnet_jax.models import wide_gradients
from clonalnet_jax.models.layers import narrow_normal
from clonalnet_jax.models.switches import while_set

_in_parts = contextvars.ContextVar("attention_in_parts", default=False)


@contextlib.contextmanager
def attention_in_parts(wanted: bool = True) -> Iterator[None]:
    """Makes transformers that are traced inside the block attend as suits a TPU.

    Queries, keys and values come of a product each, which are laid out as what reads
    them needs it; cut out of one product, they would be copied. And the sums of the
    weighted values are divided by the sums of the weights, instead of every weight
    before, so that weights are written once, in the type of the values.

    Args:
      wanted: Whether to. False switches it off inside the block.

    Yields:
      Nothing.
    """
    with while_set(_in_parts, wanted):
        yield


class Projections(nn.Module):
    """Makes queries, keys and values. Their kernels lie side by side in one.

    Attributes:
      dtype: Dtype of the computation.
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> list[Float[Array, "*n c"]]:
        """Maps the last axis, to three arrays of the same shape."""
        width = x.shape[-1]
        kernel = self.param("kernel", narrow_normal, (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros, (3 * width,))
        x = x.astype(self.dtype)
        if not _in_parts.get():
            return jnp.split(self._map(x, kernel, bias), 3, axis=-1)
        parts = zip(jnp.split(kernel, 3, axis=-1), jnp.split(bias, 3), strict=True)
        return [self._map(x, *part) for part in parts]

    def _map(self, x: Array, kernel: Array, bias: Array) -> Array:
        if wide_gradients.wanted(self.dtype):
            return wide_gradients.add(wide_gradients.multiply(x, kernel), bias)
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def attend(
    query: Float[Array, "*b q heads c"],
    key: Float[Array, "*b k heads c"],
    value: Float[Array, "*b k heads c"],
    *,
    bias: Float[Array, "*b #heads #q k"] | None = None,
    seen: Bool[Array, " k"] | None = None,
) -> Float[Array, "*b q heads c"]:
    """Averages values, weighted by how well their keys fit a query.

    Args:
      query: The queries.
      key: The keys.
      value: The values, in the type of the result.
      bias: The numbers that are added to the scores, or None.
      seen: The mask of the keys that are looked at, one at least, or None for all.

    Returns:
      The averages. Scores and the sums of weights are float32 or wider. They have a
      gradient in reverse mode alone.
    """
    return _attend(_in_parts.get(), query, key, value, bias, seen)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(divide_last: bool, *arrays: Any) -> Array:
    return _forward(divide_last, *arrays)[0]


def _forward(
    divide_last: bool,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    seen: Array | None,
) -> tuple[Array, tuple[Any, ...]]:
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum(
        "...qhc,...khc->...hqk", query, key, preferred_element_type=wide
    )
    scores = scores * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    # Whatever is subtracted cancels; of the largest, no weight overflows.
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    sums = jnp.sum(weights, axis=-1, keepdims=True)
    if not divide_last:
        weights = (weights / sums).astype(value.dtype)
        y = jnp.einsum("...hqk,...khc->...qhc", weights, value)
        return y, (query, key, value, bias, weights, None, y)
    weights, sums = weights.astype(value.dtype), _swapped(sums)
    y = jnp.einsum("...hqk,...khc->...qhc", weights, value, preferred_element_type=wide)
    y = (y / sums).astype(value.dtype)
    return y, (query, key, value, bias, weights, sums, y)


def _backward(
    divide_last: bool, kept: tuple[Any, ...], gradient: Array
) -> tuple[Array | None, ...]:
    query, key, value, bias, weights, sums, y = kept
    if divide_last:
        gradient = (gradient / sums).astype(value.dtype)
    of_value = jnp.einsum("...hqk,...qhc->...khc", weights, gradient)
    of_weights = jnp.einsum("...qhc,...khc->...hqk", gradient, value)
    wide = jnp.promote_types(query.dtype, jnp.float32)
    mean = jnp.sum(gradient.astype(wide) * y, axis=-1, keepdims=True)
    of_scores = weights * (of_weights - _swapped(mean))
    of_bias = None if bias is None else _summed(of_scores, bias)
    of_scores = (of_scores * query.shape[-1] ** -0.5).astype(query.dtype)
    of_query = jnp.einsum("...hqk,...khc->...qhc", of_scores, key)
    of_key = jnp.einsum("...hqk,...qhc->...khc", of_scores, query)
    return of_query, of_key, of_value, of_bias, None


_attend.defvjp(_forward, _backward)


def _swapped(x: Float[Array, "*b m n 1"]) -> Float[Array, "*b n m 1"]:
    """Takes numbers of heads and queries to the order of scores or of averages."""
    return jnp.swapaxes(x, -3, -2)


def _summed(gradient: Array, bias: Array) -> Array:
    """The gradient of what was broadcast, in its shape and type."""

    def spread(bias: Array) -> Array:
        return jnp.broadcast_to(bias, gradient.shape)

    wide = bias.astype(gradient.dtype)
    (summed,) = jax.linear_transpose(spread, wide)(gradient)
    return summed.astype(bias.dtype)
