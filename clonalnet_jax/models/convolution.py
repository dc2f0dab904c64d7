"""Convolutions whose weight gradient is summed from parts of the batch.

On a CPU, XLA turns the gradient of a kernel into one matrix product over all pixels of
the batch, an operand of which soon fits in no cache; and it computes layers before it
again to read them in that order. Parts and what is kept mend both. With what
`partition` asks of the compiler, a ResNet's whole step takes two thirds to three
quarters of the time (`benchmarks/step.py`).
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Numbers that a part puts out, and the most parts, as each is compiled by itself.
_PART, _MOST = 2**17, 8
_in_parts = contextvars.ContextVar("in_parts", default=False)


@contextlib.contextmanager
def gradients_in_parts(wanted: bool = True) -> Iterator[None]:
    """Within it, networks are traced with weight gradients in parts.

    Such gradients are reverse mode's alone, and for a batch that lies on one device:
    others would have to sum every part among them.

    Args:
      wanted: False changes nothing.

    Yields:
      Nothing.
    """
    token = _in_parts.set(wanted)
    try:
        yield
    finally:
        _in_parts.reset(token)


def convolve(images: Array, kernel: Array, *args: Any, **kwargs: Any) -> Array:
    """`jax.lax.conv_general_dilated`, as `flax.linen.Conv` calls it.

    Args:
      images: `[batch, ...]`.
      kernel: laid out as `kwargs` says.
      *args: strides and padding.
      **kwargs: the rest.

    Returns:
      `[batch, ...]`.
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
    """The same, in memory: the end of what XLA may compute again where it is read.

    A weight gradient reads its operands transposed, and XLA would redo the batch norms,
    additions and ReLUs of several layers there, for every part. On a CPU it drops
    `optimization_barrier` before it fuses; into a condition it does not look.
    """
    first = x[(0,) * x.ndim]
    # Equal branches would be one; these are equal to every bit.
    return jax.lax.cond(first > 0, lambda x: x, lambda x: -jnp.negative(x), x)


_convolve_in_parts.defvjp(_forward, _backward)
