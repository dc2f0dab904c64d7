"""Residual networks, for ImageNet and for small images.

Names and definitions are torchvision's (`conv1`, `layer1.0.bn1`, `downsample.0`,
`fc`). RepDistiller's CIFAR networks share them.
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    BatchNorm,
    ModuleFactory,
    conv,
    global_mean,
    head,
    torch_default_bias,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, fig. 5 left)."""

    width: int
    stride: int
    conv: ModuleFactory
    norm: ModuleFactory
    last_norm: ModuleFactory
    padded_shortcuts: bool
    separable: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        conv = partial(SeparableConv, self.conv) if self.separable else self.conv
        y = conv(self.width, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = conv(self.width, 3, name="conv2")(y)
        y = self.last_norm(name="bn2")(y)
        return nn.relu(_shortcut(self, x, self.width) + y)


class SeparableConv(nn.Module):
    """A depthwise convolution and then a 1x1 one, without anything between them."""

    conv: ModuleFactory
    features: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, features]`."""
        inner = x.shape[-1]
        x = self.conv(inner, self.kernel, self.stride, groups=inner, name="depthwise")(
            x
        )
        return self.conv(self.features, 1, name="pointwise")(x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2016, fig. 5 right).

    The 3x3 convolution has the stride, as in torchvision and "ResNet v1.5", and may
    be grouped (Xie et al. 2017) or wide (Zagoruyko and Komodakis 2016).
    """

    width: int
    stride: int
    conv: ModuleFactory
    norm: ModuleFactory
    last_norm: ModuleFactory
    padded_shortcuts: bool
    groups: int
    group_width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, 4 width]`."""
        inner = self.width * self.group_width // 64 * self.groups
        y = self.conv(inner, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(inner, 3, self.stride, groups=self.groups, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(4 * self.width, 1, name="conv3")(y)
        y = self.last_norm(name="bn3")(y)
        return nn.relu(_shortcut(self, x, 4 * self.width) + y)


def _shortcut(block: BasicBlock | Bottleneck, x: Array, width: int) -> Array:
    if block.stride == 1 and x.shape[-1] == width:
        return x
    if block.padded_shortcuts:
        missing = width - x.shape[-1]
        channels = (missing // 2, missing - missing // 2)
        x = x[:, :: block.stride, :: block.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), channels))
    x = block.conv(width, 1, block.stride, name="downsample_0")(x)
    return block.norm(name="downsample_1")(x)


class ResNet(nn.Module):
    """ResNet, ResNeXt and wide ResNet.

    Stage n is 2^n times as wide as stage 0, the first.

    Attributes:
      stage_sizes: Number of blocks in each stage.
      num_classes: Size of the logits.
      bottleneck: Whether the blocks are `Bottleneck` instead of `BasicBlock`.
      groups: Number of groups of the bottlenecks' 3x3 convolutions.
      group_width: Number of channels of a group in the first stage, counted for a
        `width` of 64.
      width: Width of the first stage, in channels.
      small_stem: Whether the stem is the one for small images, a 3x3 convolution
        without max pooling. Otherwise it is a 7x7 convolution of stride 2 with max
        pooling.
      stem_width: Number of channels of the first convolution. None means `width`.
      stem_stride: Stride of the first convolution. None means 1 with `small_stem` and 2
        without. With `small_stem`, a 2 quarters the work, which helps with large images
        or small machines.
      pooled_stem: Whether max pooling follows the small stem, too. It always follows
        the large one.
      padded_shortcuts: Whether a shortcut to more channels drops pixels and adds zeros,
        half of them before and half of them after its channels, instead of a 1x1
        convolution (He et al. 2016, option A).
      separable: Whether each 3x3 convolution of a `BasicBlock` is a depthwise one and
        then a 1x1 one.
      zero_init_residual: Whether each residual branch starts as 0 (Goyal et al. 2017).
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = (
        "width",
        "small_stem",
        "stem_width",
        "stem_stride",
        "pooled_stem",
        "padded_shortcuts",
        "separable",
        "zero_init_residual",
    )

    stage_sizes: tuple[int, ...]
    num_classes: int
    bottleneck: bool = False
    groups: int = 1
    group_width: int = 64
    width: int = 64
    small_stem: bool = False
    stem_width: int | None = None
    stem_stride: int | None = None
    pooled_stem: bool = False
    padded_shortcuts: bool = False
    separable: bool = False
    zero_init_residual: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x = self._stem(images, make_conv, norm)
        gain = (
            nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        )
        block = self._block()
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=make_conv,
                    norm=norm,
                    last_norm=partial(norm, scale_init=gain),
                    padded_shortcuts=self.padded_shortcuts,
                    name=f"layer{stage + 1}_{index}",
                )(x)
        x = global_mean(tap(self, x))
        bias_init = torch_default_bias(x.shape[-1])
        return head(self.num_classes, bias_init=bias_init, dtype=self.dtype, name="fc")(
            x
        )

    def _block(self) -> ModuleFactory:
        if not self.bottleneck:
            return partial(BasicBlock, separable=self.separable)
        if self.separable:
            raise UserError(
                "separable",
                got="True for a network of bottlenecks",
                expected="a network of basic blocks, such as resnet18 or resnet20",
                remedy="leave the model's option separable out",
            )
        return partial(Bottleneck, groups=self.groups, group_width=self.group_width)

    def _stem(self, images: Array, conv: ModuleFactory, norm: ModuleFactory) -> Array:
        kernel, stride = (3, 1) if self.small_stem else (7, 2)
        width = self.stem_width or self.width
        x = conv(width, kernel, self.stem_stride or stride, name="conv1")(images)
        x = nn.relu(norm(name="bn1")(x))
        if self.small_stem and not self.pooled_stem:
            return x
        return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
