"""EfficientNet and EfficientNetV2 (Tan and Le 2019, 2021), as torchvision has them."""

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    BatchNorm,
    ModuleFactory,
    SqueezeExcitation,
    conv,
    divisible,
    dropout,
    global_mean,
    head,
    stochastic_depth,
)


class Stage(NamedTuple):
    """A row of the papers' tables.

    Attributes:
      fused: Whether one convolution stands for the expansion and the depthwise one.
      expansion: Factor by which a block widens its input.
      kernel: Side of the convolution.
      stride: Stride of the first block.
      width: Number of channels of the result.
      size: Number of blocks.
    """

    fused: bool
    expansion: int
    kernel: int
    stride: int
    width: int
    size: int


_B0 = (
    Stage(False, 1, 3, 1, 16, 1),
    Stage(False, 6, 3, 2, 24, 2),
    Stage(False, 6, 5, 2, 40, 2),
    Stage(False, 6, 3, 2, 80, 3),
    Stage(False, 6, 5, 1, 112, 3),
    Stage(False, 6, 5, 2, 192, 4),
    Stage(False, 6, 3, 1, 320, 1),
)
V2_SMALL = (
    Stage(True, 1, 3, 1, 24, 2),
    Stage(True, 4, 3, 2, 48, 4),
    Stage(True, 4, 3, 2, 64, 4),
    Stage(False, 4, 3, 2, 128, 6),
    Stage(False, 6, 3, 1, 160, 9),
    Stage(False, 6, 3, 2, 256, 15),
)


def scaled(wider: float, deeper: float) -> tuple[Stage, ...]:
    """Scales EfficientNet-B0 (table 1 and section 3.3 of the first paper).

    Args:
      wider: Factor of the number of channels.
      deeper: Factor of the number of blocks.

    Returns:
      The stages.
    """
    return tuple(
        stage._replace(
            width=divisible(stage.width * wider), size=math.ceil(stage.size * deeper)
        )
        for stage in _B0
    )


class Block(nn.Module):
    """An inverted residual with squeeze and excitation, or a fused one without.

    Attributes:
      stage: The numbers of the block.
      stride: Stride of its convolution.
      drop: Layer that drops the branch beside a shortcut.
      conv: Function that makes a convolution.
      norm: Function that makes a batch norm.
      dtype: Dtype of the computation.
    """

    stage: Stage
    stride: int
    drop: nn.Module
    conv: ModuleFactory
    norm: ModuleFactory
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        y = self._fused(x) if self.stage.fused else self._depthwise(x)
        if x.shape != y.shape:
            return y
        kept: Array = self.drop(y)
        return x + kept

    def _fused(self, x: Array) -> Array:
        stage, inputs = self.stage, x.shape[-1]
        if stage.expansion == 1:
            return self._layer(x, 0, stage.width, stage.kernel, self.stride)
        y = self._layer(x, 0, stage.expansion * inputs, stage.kernel, self.stride)
        return self._project(y, 1)

    def _depthwise(self, x: Array) -> Array:
        stage, inputs = self.stage, x.shape[-1]
        expanded, layer = divisible(stage.expansion * inputs), 0
        y = x
        if expanded != inputs:
            y = self._layer(y, 0, expanded, 1)
            layer = 1
        y = self._layer(y, layer, expanded, stage.kernel, self.stride, groups=expanded)
        y = SqueezeExcitation(
            max(1, inputs // 4),
            nn.silu,
            nn.sigmoid,
            self.dtype,
            name=f"block_{layer + 1}",
        )(y)
        return self._project(y, layer + 2)

    def _layer(
        self,
        x: Array,
        number: int,
        width: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
    ) -> Array:
        name = f"block_{number}"
        y = self.conv(width, kernel, stride, groups=groups, name=f"{name}_0")(x)
        y = self.norm(name=f"{name}_1")(y)
        return nn.silu(y)

    def _project(self, x: Array, number: int) -> Array:
        y = self.conv(self.stage.width, 1, name=f"block_{number}_0")(x)
        projected: Array = self.norm(name=f"block_{number}_1")(y)
        return projected


class EfficientNet(nn.Module):
    """EfficientNet.

    Attributes:
      stages: The numbers of each stage.
      stem: Width of the first convolution.
      num_classes: Size of the logits.
      last: Width of the last convolution; None for four times the last stage's.
      epsilon: Number that batch norm adds to the variance.
      dropout: Rate of the dropout before the classifier, in training; torchvision
        trains B0, B1 and V2-S with 0.2, B2 and B3 with 0.3.
      stochastic_depth: Rate at which the last block's branch is dropped in training.
        That of the others falls to 0 towards the first; torchvision trains with 0.2.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("dropout", "stochastic_depth")

    stages: tuple[Stage, ...]
    stem: int
    num_classes: int
    last: int | None = None
    epsilon: float = 1e-5
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, epsilon=self.epsilon, dtype=self.dtype)
        x = make_conv(self.stem, 3, 2, name="features_0_0")(images)
        x = nn.silu(norm(name="features_0_1")(x))
        done, total = 0, sum(stage.size for stage in self.stages)
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.size):
                rate = self.stochastic_depth * done / total
                x = Block(
                    stage=stage,
                    stride=stage.stride if index == 0 else 1,
                    drop=stochastic_depth(rate, train=train),
                    conv=make_conv,
                    norm=norm,
                    dtype=self.dtype,
                    name=f"features_{number}_{index}",
                )(x)
                done += 1
        last = f"features_{len(self.stages) + 1}"
        x = make_conv(self.last or 4 * x.shape[-1], 1, name=f"{last}_0")(x)
        x = nn.silu(norm(name=f"{last}_1")(x))
        x = dropout(self.dropout, train=train)(global_mean(tap(self, x)))
        return head(
            self.num_classes, init=_by_outputs, dtype=self.dtype, name="classifier_1"
        )(x)


def _by_outputs(
    key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Array:
    """Draws from U(+-1 / sqrt(fan_out)), as torchvision initialises the classifier."""
    bound = shape[-1] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)
