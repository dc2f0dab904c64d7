"""MobileNetV2 as torchvision (ImageNet) and RepDistiller (small images) define it."""

from collections.abc import Callable
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
    dropout,
    global_mean,
    head,
)

# Expansion, width, repeats and stride of each stage (Sandler et al. 2018, table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Names of the convolution and the norm of each layer, as the references number them.
_EXPANDED = ("conv_0_0", "conv_0_1", "conv_1_0", "conv_1_1", "conv_2", "conv_3")
_UNEXPANDED = ("conv_0_0", "conv_0_1", "conv_1", "conv_2")
_SMALL = ("conv_0", "conv_1", "conv_3", "conv_4", "conv_6", "conv_7")


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution and linear 1x1 projection.

    Attributes:
      width: Number of channels of the result.
      stride: Stride of the depthwise convolution.
      expansion: Factor by which the first layer widens the input.
      names: Names of the layers. There are four where there is no expansion layer, else
        six.
      activation: Activation function after each layer but the last.
      conv: Function that makes a convolution.
      norm: Function that makes a batch norm.
    """

    width: int
    stride: int
    expansion: int
    names: tuple[str, ...]
    activation: Callable[[Array], Array]
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        hidden = self.expansion * x.shape[-1]
        *expand, conv2, norm2, conv3, norm3 = self.names
        y = x
        if expand:
            y = self.conv(hidden, 1, name=expand[0])(y)
            y = self.activation(self.norm(name=expand[1])(y))
        y = self.conv(hidden, 3, self.stride, groups=hidden, name=conv2)(y)
        y = self.activation(self.norm(name=norm2)(y))
        y = self.norm(name=norm3)(self.conv(self.width, 1, name=conv3)(y))
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al. 2018).

    Attributes:
      num_classes: Size of the logits.
      dropout: Rate of the dropout before the classifier, in training; torchvision
        trains with 0.2.
      stages: Expansion, width, number of blocks and stride of each stage.
      half: Whether to build RepDistiller's `mobile_half`. It has half the width, ReLU
        instead of ReLU6, an expansion layer in the first block too, and no stride in
        the second stage.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("dropout",)

    num_classes: int
    dropout: float = 0.0
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    half: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        activation = nn.relu if self.half else nn.relu6
        blocks = self._blocks()
        stem, last = "features_0", f"features_{len(blocks) + 1}"
        if self.half:
            stem, last = "conv1", "conv2"
        x = make_conv(self._width(32), 3, 2, name=f"{stem}_0")(images)
        x = activation(norm(name=f"{stem}_1")(x))
        for name, expansion, width, stride in blocks:
            x = InvertedResidual(
                width=width,
                stride=stride,
                expansion=expansion,
                names=self._layer_names(expansion),
                activation=activation,
                conv=make_conv,
                norm=norm,
                name=name,
            )(x)
        x = make_conv(1280, 1, name=f"{last}_0")(x)
        x = activation(norm(name=f"{last}_1")(x))
        x = dropout(self.dropout, train=train)(global_mean(tap(self, x)))
        init = nn.initializers.normal(0.01)
        name = "classifier_0" if self.half else "classifier_1"
        return head(self.num_classes, init=init, dtype=self.dtype, name=name)(x)

    def _blocks(self) -> list[tuple[str, int, int, int]]:
        """Returns the name, expansion, width and stride of each block."""
        blocks: list[tuple[str, int, int, int]] = []
        for stage, (expansion, width, repeats, stride) in enumerate(self.stages):
            first = 1 if self.half and stage == 1 else stride
            for index in range(repeats):
                name = f"features_{len(blocks) + 1}"
                if self.half:
                    name = f"blocks_{stage}_{index}"
                stride = first if index == 0 else 1
                blocks.append((name, expansion, self._width(width), stride))
        return blocks

    def _layer_names(self, expansion: int) -> tuple[str, ...]:
        if self.half:
            return _SMALL
        return _UNEXPANDED if expansion == 1 else _EXPANDED

    def _width(self, width: int) -> int:
        return width // 2 if self.half else width
