"""Convolutions whose weight gradient is summed from parts of the batch.

On a CPU, XLA computes the gradient of a kernel as one matrix product over all pixels of
the batch. This is slow for two reasons. First, an operand of the product is soon too
large for any cache. This module therefore splits the batch into parts and adds up their
gradients. Second, XLA recomputes earlier layers in order to read their results in the
order of the product. This module therefore keeps both operands in memory (`_kept`).
Together with the compiler options that `partition` sets, a whole training step of a
ResNet takes two thirds to three quarters of the time (`benchmarks/step.py`).
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from clonalnet_jax.models.switches import while_set

# About how many output values a part has, and the greatest number of parts. It is
# limited because every part is compiled separately.
_PART, _MOST = 2**17, 8
_in_parts = contextvars.ContextVar("in_parts", default=False)


@contextlib.contextmanager
def gradients_in_parts(wanted: bool = True) -> Iterator[None]:
    """Makes networks that are traced inside the block sum weight gradients in parts.

    These gradients exist only in reverse mode. Use them only for a batch that lies on
    one device, because several devices would have to add up every part among them.

    Args:
      wanted: Whether to sum in parts. False switches it off inside the block.

    Yields:
      Nothing.
    """
    with while_set(_in_parts, wanted):
        yield


def convolve(images: Array, kernel: Array, *args: Any, **kwargs: Any) -> Array:
    """Calls `jax.lax.conv_general_dilated` as `flax.linen.Conv` does.

    Args:
      images: Inputs `[batch, ...]`.
      kernel: Weights, laid out as `kwargs` says.
      *args: Strides and padding.
      **kwargs: The other arguments of `conv_general_dilated`.

    Returns:
      The result of the convolution, `[batch, ...]`.
    """

    def conv(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(images, kernel, *args, **kwargs)

    if not _in_parts.get() or kwargs["feature_group_count"] > 1:
        return conv(images, kernel)
    outputs = jax.eval_shape(conv, images, kernel)
    wanted = min(_MOST, -(-outputs.size // _PART))
    parts = max(n for n in range(1, wanted + 1) if len(images) % n == 0)
    return _convolve_in_parts(conv, parts, images, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve_in_parts(
    conv: Callable[[Array, Array], Array], parts: int, images: Array, kernel: Array
) -> Array:
    return conv(images, kernel)


def _forward(
    conv: Callable[[Array, Array], Array], parts: int, images: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    images = _kept(images)
    return conv(images, kernel), (images, kernel)


def _backward(
    conv: Callable[[Array, Array], Array],
    parts: int,
    kept: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    images, kernel = kept
    gradient = _kept(gradient)
    (of_images,) = jax.linear_transpose(lambda x: conv(x, kernel), images)(gradient)

    def of_kernel(images: Array, gradient: Array) -> Array:
        return jax.linear_transpose(lambda k: conv(images, k), kernel)(gradient)[0]

    with jax.named_scope("weight_gradient"):
        pairs = zip(jnp.split(images, parts), jnp.split(gradient, parts), strict=True)
        gradients = [of_kernel(*pair) for pair in pairs]
    return of_images, functools.reduce(jnp.add, gradients)


def _kept(x: Array) -> Array:
    """Returns `x` unchanged, and makes XLA store it instead of computing it again.

    A weight gradient reads its operands transposed. Without this function, XLA would
    recompute the batch norms, additions and ReLUs of several layers for every part.
    `optimization_barrier` does not help: on a CPU, XLA removes it before it fuses
    operations. XLA does not fuse across a conditional, so `x` passes through one.
    """
    first = x[(0,) * x.ndim]
    # XLA would merge two identical branches and remove the conditional. These branches
    # are written differently but return exactly the same bits.
    return jax.lax.cond(first > 0, lambda x: x, lambda x: -jnp.negative(x), x)


_convolve_in_parts.defvjp(_forward, _backward)
