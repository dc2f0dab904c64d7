"""Gradients in float32 of layers that compute in bfloat16.

Devices add up their parts of a gradient in the type in which it is computed: that of
the layer's input, so that eight devices would round seven sums to eight bits. Inside
`gradients_in_float32`, layers take parameters of float32, compute in the type of their
input as always, and give the parameters' gradient in float32.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.switches import while_set

AddUp = Callable[..., Array]
"""`(partial_sum, *arrays)` adds up, in float32, what a function makes of each device's
part of arrays that are split by their first axis."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_wanted = contextvars.ContextVar[bool]("wide_gradients", default=False)
_add_up = contextvars.ContextVar[AddUp | None]("add_up", default=None)


@contextlib.contextmanager
def gradients_in_float32(
    wanted: bool = True, *, add_up: AddUp | None = None
) -> Iterator[None]:
    """Makes networks that are traced inside the block have gradients in float32.

    They exist only in reverse mode.

    Args:
      wanted: Whether they are. False switches it off inside the block.
      add_up: The function that adds up the gradient of a convolution's kernel, where a
        device can compute its part of it in bfloat16 alone, or None where it can in
        float32.

    Yields:
      Nothing.
    """
    with while_set(_wanted, wanted), while_set(_add_up, add_up):
        yield


def wanted(dtype: DTypeLike) -> bool:
    """Whether a layer that computes in a type is to have wider gradients."""
    return _wanted.get() and jnp.dtype(dtype).itemsize < 4


@jax.custom_vjp
def multiply(
    x: Float[Array, "*n i"], kernel: Float[Array, "i o"]
) -> Float[Array, "*n o"]:
    """Multiplies the last axis, in the type of `x`."""
    return x @ kernel.astype(x.dtype)


def _multiply_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return multiply(x, kernel), (x, kernel)


def _multiply_backward(
    kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = kept
    rows = tuple(range(x.ndim - 1))
    of_kernel = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=kernel.dtype
    )
    return gradient @ kernel.astype(x.dtype).T, of_kernel


multiply.defvjp(_multiply_forward, _multiply_backward)


@jax.custom_vjp
def add(y: Float[Array, "*n c"], bias: Float[Array, " c"]) -> Float[Array, "*n c"]:
    """Adds a vector to the last axis, in the type of `y`."""
    return y + bias.astype(y.dtype)


def _add_forward(y: Array, bias: Array) -> tuple[Array, Array]:
    # Of the bias, the backward pass needs the type alone.
    return add(y, bias), bias


def _add_backward(bias: Array, gradient: Array) -> tuple[Array, Array]:
    rows = tuple(range(gradient.ndim - 1))
    return gradient, jnp.sum(gradient.astype(bias.dtype), rows)


add.defvjp(_add_forward, _add_backward)


def convolve(
    images: Float[Array, "b h w i"],
    kernel: Float[Array, "k l i_of_group o"],
    *,
    strides: Sequence[int],
    padding: int,
    groups: int,
) -> Float[Array, "b h2 w2 o"]:
    """Convolves, in the type of the images.

    Args:
      images: The inputs.
      kernel: The weights.
      strides: The strides over rows and columns.
      padding: The number of zeros on each side.
      groups: The number of groups of channels.

    Returns:
      The outputs.
    """
    return _convolve(tuple(strides), padding, groups, _add_up.get(), images, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _convolve(
    strides: tuple[int, ...],
    padding: int,
    groups: int,
    add_up: AddUp | None,
    images: Array,
    kernel: Array,
) -> Array:
    del add_up
    return _plain(strides, padding, groups, images, kernel.astype(images.dtype))


def _plain(
    strides: tuple[int, ...], padding: int, groups: int, images: Array, kernel: Array
) -> Array:
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        strides,
        ((padding, padding),) * 2,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _convolve_forward(*arguments: Any) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(*arguments), arguments[4:]


def _convolve_backward(
    strides: tuple[int, ...],
    padding: int,
    groups: int,
    add_up: AddUp | None,
    kept: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    images, kernel = kept
    plain = functools.partial(_plain, strides, padding, groups)
    narrow = kernel.astype(images.dtype)
    of_images = jax.linear_transpose(lambda x: plain(x, narrow), images)(gradient)[0]
    of_part = functools.partial(_of_kernel, strides, padding, groups, kernel.shape)
    if add_up is not None:
        return of_images, add_up(of_part, images, gradient)
    return of_images, of_part(images, gradient, preferred_element_type=kernel.dtype)


def _of_kernel(
    strides: tuple[int, ...],
    padding: int,
    groups: int,
    size: tuple[int, ...],
    images: Array,
    gradient: Array,
    **options: Any,
) -> Array:
    """The images convolved with the gradient, whose pixels lie a stride apart."""
    # Padded so that the result has the size of the kernel.
    ends = [
        (padding, side + (out - 1) * stride - inside - padding)
        for side, out, stride, inside in zip(
            size[:2], gradient.shape[1:3], strides, images.shape[1:3], strict=True
        )
    ]
    return jax.lax.conv_general_dilated(
        images,
        gradient,
        (1, 1),
        ends,
        rhs_dilation=strides,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=groups,
        **options,
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)
