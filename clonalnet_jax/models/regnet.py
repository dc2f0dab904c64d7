"""RegNetY (Radosavovic et al. 2020), with torchvision's definition and names."""

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
    SqueezeExcitation,
    conv,
    global_mean,
    head,
)


class Transform(nn.Module):
    """1x1, grouped 3x3, squeeze and excitation, 1x1."""

    width: int
    stride: int
    group_width: int
    conv: ModuleFactory
    norm: ModuleFactory
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        groups = self.width // self.group_width
        y = self.conv(self.width, 1, name="a_0")(x)
        y = nn.relu(self.norm(name="a_1")(y))
        y = self.conv(self.width, 3, self.stride, groups=groups, name="b_0")(y)
        y = nn.relu(self.norm(name="b_1")(y))
        # A quarter of the block's input, not of what is scaled.
        squeezed = round(x.shape[-1] / 4)
        y = SqueezeExcitation(
            squeezed, nn.relu, nn.sigmoid, self.dtype, random_biases=True, name="se"
        )(y)
        y = self.conv(self.width, 1, name="c_0")(y)
        result: Array = self.norm(name="c_1")(y)
        return result


class Block(nn.Module):
    """A transform and a shortcut, which is a projection where the shape changes."""

    width: int
    stride: int
    group_width: int
    conv: ModuleFactory
    norm: ModuleFactory
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        y = Transform(
            self.width,
            self.stride,
            self.group_width,
            self.conv,
            self.norm,
            self.dtype,
            name="f",
        )(x)
        if x.shape != y.shape:
            x = self.conv(self.width, 1, self.stride, name="proj_0")(x)
            x = self.norm(name="proj_1")(x)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Blocks of one width, the first of stride 2."""

    number: int
    size: int
    width: int
    block: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / 2, w / 2, width]`."""
        for index in range(self.size):
            stride, name = 2 if index == 0 else 1, f"block{self.number}-{index}"
            x = self.block(self.width, stride, name=name)(x)
        return x


class Trunk(nn.Module):
    """The stages."""

    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    block: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps the stem's output to the last feature map."""
        stages = zip(self.sizes, self.widths, strict=True)
        for number, (size, width) in enumerate(stages, 1):
            x = Stage(number, size, width, self.block, name=f"block{number}")(x)
        return x


class RegNet(nn.Module):
    """RegNetY.

    Attributes:
      sizes: Number of blocks in each stage.
      widths: Number of channels of each stage.
      group_width: Number of channels of a group of the 3x3 convolutions.
      num_classes: Size of the logits.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ()

    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x = make_conv(32, 3, 2, name="stem_0")(images)
        x = nn.relu(norm(name="stem_1")(x))
        block = partial(
            Block,
            group_width=self.group_width,
            conv=make_conv,
            norm=norm,
            dtype=self.dtype,
        )
        x = Trunk(self.sizes, self.widths, block, name="trunk_output")(x)
        x = global_mean(tap(self, x))
        init = nn.initializers.normal(0.01)
        return head(self.num_classes, init=init, dtype=self.dtype, name="fc")(x)
