"""ConvNeXt (Liu et al. 2022), with timm's definition and names.

A name of timm is, for example, `stages.0.blocks.0.gamma`. There are two common
definitions, which compute the same. Timm's stores the layer scale as one value per
channel, so that it need not be reshaped when weights are loaded or saved.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    Mlp,
    check_image_size,
    conv,
    global_mean,
    head,
    layer_norm,
    narrow_normal,
    stochastic_depth,
)


class ConvNeXtBlock(nn.Module):
    """A 7x7 depthwise convolution, an MLP on each pixel, and a scaled residual."""

    drop: nn.Module
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns an array of the same shape."""
        width = x.shape[-1]
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (width,))
        y = conv(
            width,
            7,
            groups=width,
            bias=True,
            init=narrow_normal,
            dtype=self.dtype,
            name="conv_dw",
        )(x)
        y = layer_norm(dtype=self.dtype, name="norm")(y)
        y = Mlp(4 * width, dtype=self.dtype, name="mlp")(y)
        kept: Array = self.drop((gamma * y).astype(self.dtype))
        return x + kept


class Stage(nn.Module):
    """Blocks of one width, after an optional norm and 2x2 convolution of stride 2."""

    drops: tuple[nn.Module, ...]
    width: int
    downsample: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / 2, w / 2, width]`, or keeps the shape."""
        if self.downsample:
            x = layer_norm(dtype=self.dtype, name="downsample_0")(x)
            x = conv(
                self.width,
                2,
                2,
                bias=True,
                init=narrow_normal,
                dtype=self.dtype,
                name="downsample_1",
            )(x)
        for index, drop in enumerate(self.drops):
            x = ConvNeXtBlock(drop, self.dtype, name=f"blocks_{index}")(x)
        return x


class Head(nn.Module):
    """A norm and a classifier, applied to the pooled features."""

    num_classes: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b classes"]:
        """Computes logits from pooled features."""
        x = layer_norm(dtype=self.dtype, name="norm")(x)
        return head(self.num_classes, init=narrow_normal, dtype=self.dtype, name="fc")(
            x
        )


class ConvNeXt(nn.Module):
    """ConvNeXt.

    Attributes:
      stage_sizes: Number of blocks in each stage.
      num_classes: Size of the logits.
      width: Number of channels in the first stage. It doubles from stage to stage.
      stochastic_depth: Rate at which the last block's branch is dropped in training.
        That of the others falls to 0 towards the first; the authors train the tiny one
        with 0.1 and the small one with 0.4.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("width", "stochastic_depth")

    stage_sizes: tuple[int, ...]
    num_classes: int
    width: int = 96
    stochastic_depth: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits; `train` matters to stochastic depth alone."""
        check_image_size("convnext", images, least=32)
        x = conv(
            self.width,
            4,
            4,
            bias=True,
            init=narrow_normal,
            dtype=self.dtype,
            name="stem_0",
        )(images)
        x = layer_norm(dtype=self.dtype, name="stem_1")(x)
        done, last = 0, max(sum(self.stage_sizes) - 1, 1)
        for stage, size in enumerate(self.stage_sizes):
            rates = [
                self.stochastic_depth * index / last
                for index in range(done, done + size)
            ]
            drops = tuple(stochastic_depth(rate, train=train) for rate in rates)
            width = self.width * 2**stage
            x = Stage(drops, width, stage > 0, self.dtype, name=f"stages_{stage}")(x)
            done += size
        x = global_mean(tap(self, x))
        return Head(self.num_classes, self.dtype, name="head")(x)
