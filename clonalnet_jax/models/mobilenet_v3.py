"""MobileNetV3 (Howard et al. 2019), with torchvision's definition and names."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

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
    dense,
    divisible,
    dropout,
    global_mean,
    head,
)


class Bneck(NamedTuple):
    """A row of the paper's tables 1 and 2.

    Attributes:
      kernel: Side of the depthwise convolution.
      expanded: Number of channels that it has.
      width: Number of channels of the result.
      squeezed: Whether there is a squeeze-and-excitation layer.
      hard_swish: Whether the activation is the hard swish, instead of ReLU.
      stride: Stride of the depthwise convolution.
    """

    kernel: int
    expanded: int
    width: int
    squeezed: bool
    hard_swish: bool
    stride: int


LARGE = (
    Bneck(3, 16, 16, False, False, 1),
    Bneck(3, 64, 24, False, False, 2),
    Bneck(3, 72, 24, False, False, 1),
    Bneck(5, 72, 40, True, False, 2),
    Bneck(5, 120, 40, True, False, 1),
    Bneck(5, 120, 40, True, False, 1),
    Bneck(3, 240, 80, False, True, 2),
    Bneck(3, 200, 80, False, True, 1),
    Bneck(3, 184, 80, False, True, 1),
    Bneck(3, 184, 80, False, True, 1),
    Bneck(3, 480, 112, True, True, 1),
    Bneck(3, 672, 112, True, True, 1),
    Bneck(5, 672, 160, True, True, 2),
    Bneck(5, 960, 160, True, True, 1),
    Bneck(5, 960, 160, True, True, 1),
)
SMALL = (
    Bneck(3, 16, 16, True, False, 2),
    Bneck(3, 72, 24, False, False, 2),
    Bneck(3, 88, 24, False, False, 1),
    Bneck(5, 96, 40, True, True, 2),
    Bneck(5, 240, 40, True, True, 1),
    Bneck(5, 240, 40, True, True, 1),
    Bneck(5, 120, 48, True, True, 1),
    Bneck(5, 144, 48, True, True, 1),
    Bneck(5, 288, 96, True, True, 2),
    Bneck(5, 576, 96, True, True, 1),
    Bneck(5, 576, 96, True, True, 1),
)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, linear projection.

    Attributes:
      shape: The numbers of the block.
      conv: Function that makes a convolution.
      norm: Function that makes a batch norm.
      dtype: Dtype of the computation.
    """

    shape: Bneck
    conv: ModuleFactory
    norm: ModuleFactory
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        shape, y, layer = self.shape, x, 0
        activation: Callable[[Array], Array] = nn.relu
        if shape.hard_swish:
            activation = nn.hard_swish
        if shape.expanded != x.shape[-1]:
            y = self.conv(shape.expanded, 1, name="block_0_0")(y)
            y = activation(self.norm(name="block_0_1")(y))
            layer = 1
        y = self.conv(
            shape.expanded,
            shape.kernel,
            shape.stride,
            groups=shape.expanded,
            name=f"block_{layer}_0",
        )(y)
        y = activation(self.norm(name=f"block_{layer}_1")(y))
        layer += 1
        if shape.squeezed:
            y = SqueezeExcitation(
                divisible(shape.expanded // 4),
                nn.relu,
                nn.hard_sigmoid,
                self.dtype,
                name=f"block_{layer}",
            )(y)
            layer += 1
        y = self.conv(shape.width, 1, name=f"block_{layer}_0")(y)
        y = self.norm(name=f"block_{layer}_1")(y)
        return x + y if x.shape == y.shape else y


class MobileNetV3(nn.Module):
    """MobileNetV3.

    Attributes:
      blocks: The numbers of each block, such as `LARGE`.
      hidden: Width of the layer before the classifier.
      num_classes: Size of the logits.
      dropout: Rate of the dropout before the classifier, in training; torchvision
        trains with 0.2.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("dropout",)

    blocks: tuple[Bneck, ...]
    hidden: int
    num_classes: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(
            BatchNorm, train=train, momentum=0.01, epsilon=1e-3, dtype=self.dtype
        )
        x = make_conv(16, 3, 2, name="features_0_0")(images)
        x = nn.hard_swish(norm(name="features_0_1")(x))
        for number, shape in enumerate(self.blocks, 1):
            x = InvertedResidual(
                shape, make_conv, norm, self.dtype, name=f"features_{number}"
            )(x)
        last = f"features_{len(self.blocks) + 1}"
        x = make_conv(6 * x.shape[-1], 1, name=f"{last}_0")(x)
        x = nn.hard_swish(norm(name=f"{last}_1")(x))
        x = global_mean(tap(self, x)).astype(self.dtype)
        init = nn.initializers.normal(0.01)
        x = dense(self.hidden, init=init, dtype=self.dtype, name="classifier_0")(x)
        x = dropout(self.dropout, train=train)(nn.hard_swish(x))
        return head(self.num_classes, init=init, dtype=self.dtype, name="classifier_3")(
            x
        )
