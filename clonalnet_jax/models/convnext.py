"""ConvNeXt (Liu et al. 2022): timm's definition and names, `stages.0.blocks.0.gamma`.

Of the two common definitions timm's keeps the layer scale as one value a channel, so
that it needs no reshaping on its way in or out. They compute the same.
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
)


class ConvNeXtBlock(nn.Module):
    """A 7x7 depthwise convolution, an MLP on each pixel, and a scaled residual."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The shape stays."""
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
        return x + gamma.astype(self.dtype) * y


class Stage(nn.Module):
    """Blocks of one width, behind a norm and a 2x2 convolution of stride 2."""

    size: int
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
        for index in range(self.size):
            x = ConvNeXtBlock(self.dtype, name=f"blocks_{index}")(x)
        return x


class Head(nn.Module):
    """Norm and classifier of the pooled features."""

    num_classes: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b classes"]:
        """Pooled features to logits."""
        x = layer_norm(dtype=self.dtype, name="norm")(x)
        return head(self.num_classes, init=narrow_normal, dtype=self.dtype, name="fc")(
            x
        )


class ConvNeXt(nn.Module):
    """ConvNeXt, without stochastic depth.

    Attributes:
      stage_sizes: number of blocks in each stage.
      num_classes: size of the logits.
      width: of the first stage; doubles from stage to stage.
      dtype: of the computation.
    """

    options: ClassVar = ("width",)

    stage_sizes: tuple[int, ...]
    num_classes: int
    width: int = 96
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Images to logits; nothing here depends on `train`."""
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
        for stage, size in enumerate(self.stage_sizes):
            width = self.width * 2**stage
            x = Stage(size, width, stage > 0, self.dtype, name=f"stages_{stage}")(x)
        x = global_mean(tap(self, x))
        return Head(self.num_classes, self.dtype, name="head")(x)
