"""Wide residual networks for small images, as RepDistiller names them."""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    BatchNorm,
    ModuleFactory,
    conv,
    global_mean,
    head,
)


class WideBlock(nn.Module):
    """A block with norm and ReLU before each 3x3 convolution (He et al. 2016b)."""

    width: int
    stride: int
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        active = nn.relu(self.norm(name="bn1")(x))
        y = self.conv(self.width, 3, self.stride, name="conv1")(active)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(self.width, 3, name="conv2")(y)
        if x.shape[-1] != self.width:
            # A shortcut that is a convolution also takes the activated input.
            x = self.conv(self.width, 1, self.stride, name="convShortcut")(active)
        return x + y


class WideStage(nn.Module):
    """Blocks of one width. Only the first of them has the stride."""

    size: int
    width: int
    stride: int
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        for index in range(self.size):
            stride = self.stride if index == 0 else 1
            x = WideBlock(
                self.width, stride, self.conv, self.norm, name=f"layer_{index}"
            )(x)
        return x


class WideResNet(nn.Module):
    """WRN-depth-widening (Zagoruyko and Komodakis 2016), without dropout.

    Attributes:
      depth: Number of layers, 6n + 4 for n blocks in each stage.
      widening: Factor by which the widths 16, 32 and 64 are multiplied.
      num_classes: Size of the logits.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ()

    depth: int
    widening: int
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x = make_conv(16, 3, name="conv1")(images)
        for stage, (width, stride) in enumerate(((16, 1), (32, 2), (64, 2))):
            x = WideStage(
                size=(self.depth - 4) // 6,
                width=self.widening * width,
                stride=stride,
                conv=make_conv,
                norm=norm,
                name=f"block{stage + 1}",
            )(x)
        x = nn.relu(norm(name="bn1")(x))
        x = global_mean(tap(self, x))
        return head(self.num_classes, dtype=self.dtype, name="fc")(x)
