"""Self-attention (Vaswani et al. 2017), in two forms that compute the same."""

import contextlib
import contextvars
from collections.abc import Iterator

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
      The averages. Scores and the sums of weights are float32 or wider.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    if query.ndim == 4 and query.dtype != wide and not _in_parts.get():
        # For eight GPUs, XLA makes a program of this that moves 6 % less.
        mask = None if seen is None else seen[None, None, None]
        return jax.nn.dot_product_attention(query, key, value, bias, mask)
    scores = jnp.einsum(
        "...qhc,...khc->...hqk", query, key, preferred_element_type=wide
    )
    scores = scores * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    if not _in_parts.get():
        weights = jax.nn.softmax(scores).astype(value.dtype)
        return jnp.einsum("...hqk,...khc->...qhc", weights, value)
    # Whatever is subtracted cancels; of the largest, no weight overflows.
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - largest)
    sums = jnp.einsum(
        "...hqk,...khc->...qhc",
        weights.astype(value.dtype),
        value,
        preferred_element_type=wide,
    )
    of_weights = jnp.swapaxes(jnp.sum(weights, axis=-1), -2, -1)
    return (sums / of_weights[..., None]).astype(value.dtype)
