"""Swin transformers (Liu et al. 2021), with torchvision's definition and names."""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.attention import Projections, attend
from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    check_image_size,
    conv,
    dense,
    dropout,
    gelu,
    global_mean,
    head,
    narrow_normal,
    stochastic_depth,
    torch_default,
    torch_default_bias,
)

_PATCH = 4
_FAR = -100.0
"""What is added to the attention between pixels that the shift has made neighbours."""


def relative_position_index(window: int) -> np.ndarray:
    """Numbers the offsets between the pixels of a window.

    Args:
      window: Side of the window.

    Returns:
      The row of the table of biases for each pair of pixels, int64 `[window**4]`.
    """
    rows, columns = np.divmod(np.arange(window**2), window)
    down, right = (x[:, None] - x[None, :] + window - 1 for x in (rows, columns))
    return np.ravel(down * (2 * window - 1) + right)


def window_of(table_size: int) -> int:
    """Returns the side of the window that a table of so many biases is for."""
    return (round(table_size**0.5) + 1) // 2


class WindowAttention(nn.Module):
    """Self-attention within windows, which every second block shifts by half a window.

    Attributes:
      num_heads: Number of heads.
      window: Side of a window.
      shift: Number of pixels that the windows are shifted by.
      dtype: Dtype of the computation.
    """

    num_heads: int
    window: int
    shift: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Keeps the shape."""
        height, width = x.shape[1:3]
        sides = [-(-side // self.window) * self.window for side in (height, width)]
        # A window as large as the padded image has nothing to shift.
        shift = [self.shift if side > self.window else 0 for side in sides]
        x = jnp.pad(x, ((0, 0), (0, sides[0] - height), (0, sides[1] - width), (0, 0)))
        x = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
        bias = self._bias()
        if any(shift):
            bias = bias + _mask(sides, shift, self.window)
        y = self._attend(_split(x, self.window), bias)
        y = _join(y, sides, self.window)
        y = jnp.roll(y, (shift[0], shift[1]), axis=(1, 2))
        return y[:, :height, :width]

    def _attend(self, x: Array, bias: Array) -> Array:
        """Attends within windows `[b, windows, pixels, c]`."""
        *lead, width = x.shape
        heads = *lead, self.num_heads, width // self.num_heads
        query, key, value = (
            part.reshape(heads) for part in Projections(self.dtype, name="qkv")(x)
        )
        y = attend(query, key, value, bias=bias)
        layer = dense(width, init=narrow_normal, dtype=self.dtype, name="proj")
        return layer(y.reshape(x.shape))

    def _bias(self) -> Array:
        """Makes the bias of each head, `[1, heads, pixels, pixels]`."""
        table = self.param(
            "relative_position_bias_table",
            narrow_normal,
            ((2 * self.window - 1) ** 2, self.num_heads),
        )
        pixels = self.window**2
        bias = table[relative_position_index(self.window)]
        return bias.reshape(pixels, pixels, -1).transpose(2, 0, 1)[None]


def _split(x: Array, window: int) -> Array:
    """`[b, h, w, c]` to `[b, windows, pixels, c]`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, window**2, channels)


def _join(x: Array, sides: list[int], window: int) -> Array:
    """The way back from `_split`."""
    batch, channels = x.shape[0], x.shape[-1]
    rows, columns = (side // window for side in sides)
    x = x.reshape(batch, rows, columns, window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *sides, channels)


def _mask(sides: list[int], shift: list[int], window: int) -> np.ndarray:
    """What keeps apart, in a shifted image, what was not side by side in it.

    Returns:
      `[windows, 1, pixels, pixels]`, 0 or `_FAR`.
    """
    bands = [
        np.searchsorted([side - window, side - by], np.arange(side), side="right")
        if by
        else np.zeros(side, int)
        for side, by in zip(sides, shift, strict=True)
    ]
    regions = 3 * bands[0][:, None] + bands[1][None, :]
    rows, columns = (side // window for side in sides)
    split = regions.reshape(rows, window, columns, window).transpose(0, 2, 1, 3)
    split = split.reshape(-1, window**2)
    apart = split[:, :, None] != split[:, None, :]
    return np.where(apart, np.float32(_FAR), np.float32(0))[:, None]


class SwinBlock(nn.Module):
    """Attention and an MLP. Each follows a norm and has a shortcut beside it.

    Attributes:
      num_heads: Number of heads of the attention.
      window: Side of a window.
      shift: Number of pixels that the windows are shifted by.
      drop: Layer that drops the branches.
      dtype: Dtype of the computation.
    """

    num_heads: int
    window: int
    shift: int
    drop: nn.Module
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Keeps the shape."""
        attention = WindowAttention(
            self.num_heads, self.window, self.shift, self.dtype, name="attn"
        )
        x = x + self.drop(attention(_norm(self.dtype, "norm1")(x)))
        layer = partial(dense, init=narrow_normal, dtype=self.dtype)
        y = layer(4 * x.shape[-1], name="mlp_0")(_norm(self.dtype, "norm2")(x))
        y = layer(x.shape[-1], name="mlp_3")(gelu(y))
        kept: Array = self.drop(y)
        return x + kept


class PatchMerging(nn.Module):
    """Joins 2x2 pixels, with half of their channels left."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / 2, w / 2, 2 c]`, rounded up."""
        height, width, channels = x.shape[1:]
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = _norm(self.dtype, "norm")(jnp.concatenate(parts, axis=-1))
        layer = partial(dense, bias=False, init=narrow_normal, dtype=self.dtype)
        reduced: Array = layer(2 * channels, name="reduction")(x)
        return reduced


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


class Swin(nn.Module):
    """Swin transformer.

    Attributes:
      sizes: Number of blocks in each stage.
      num_heads: Number of heads in each stage.
      num_classes: Size of the logits.
      width: Number of channels of the first stage. It doubles from stage to stage.
      window: Side of a window.
      stochastic_depth: Rate at which the last block's branches are dropped in training.
        That of the others falls to 0 towards the first; torchvision trains Swin-T with
        0.2.
      dropout: Rate of the dropout before the classifier, in training; torchvision
        trains without.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("stochastic_depth", "dropout")

    sizes: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_classes: int
    width: int = 96
    window: int = 7
    stochastic_depth: float = 0.0
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits; `train` matters to dropout and stochastic depth alone."""
        check_image_size("swin", images, least=_PATCH)
        x = conv(
            self.width,
            _PATCH,
            _PATCH,
            bias=True,
            init=torch_default,
            bias_init=torch_default_bias(_PATCH**2 * images.shape[-1]),
            dtype=self.dtype,
            name="features_0_0",
        )(images)
        x = _norm(self.dtype, "features_0_2")(x)
        done, last = 0, max(sum(self.sizes) - 1, 1)
        for stage, size in enumerate(self.sizes):
            if stage:
                x = PatchMerging(self.dtype, name=f"features_{2 * stage}")(x)
            for index in range(size):
                rate = self.stochastic_depth * done / last
                x = SwinBlock(
                    self.num_heads[stage],
                    self.window,
                    self.window // 2 if index % 2 else 0,
                    stochastic_depth(rate, train=train),
                    self.dtype,
                    name=f"features_{2 * stage + 1}_{index}",
                )(x)
                done += 1
        x = global_mean(tap(self, _norm(self.dtype, "norm")(x)))
        x = dropout(self.dropout, train=train)(x)
        return head(
            self.num_classes, init=narrow_normal, dtype=self.dtype, name="head"
        )(x)
