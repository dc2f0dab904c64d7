"""DenseNet (Huang et al. 2017), with torchvision's definition and names."""

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
    check_image_size,
    conv,
    dropout,
    global_mean,
    head,
)

# He et al. 2015, as torchvision's `kaiming_normal_` without a mode.
_by_inputs = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """Norm, 1x1 convolution, norm, 3x3 convolution, whose result is added to the list.

    Attributes:
      growth: Number of channels that it makes; four times as many are between.
      drop: Layer that drops values of the result.
      conv: Function that makes a convolution.
      norm: Function that makes a batch norm.
    """

    growth: int
    drop: nn.Module
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w g"]:
        """Maps all channels so far to `growth` new ones."""
        y = nn.relu(self.norm(name="norm1")(x))
        y = self.conv(4 * self.growth, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y))
        new: Array = self.drop(self.conv(self.growth, 3, name="conv2")(y))
        return new


class DenseBlock(nn.Module):
    """Layers that each read all that the layers before have made."""

    size: int
    growth: int
    drop: nn.Module
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """Adds `size` times `growth` channels."""
        for number in range(1, self.size + 1):
            new = DenseLayer(
                self.growth,
                self.drop,
                self.conv,
                self.norm,
                name=f"denselayer{number}",
            )(x)
            x = jnp.concatenate([x, new], axis=-1)
        return x


class Transition(nn.Module):
    """Halves channels, height and width."""

    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / 2, w / 2, c / 2]`."""
        x = nn.relu(self.norm(name="norm")(x))
        x = self.conv(x.shape[-1] // 2, 1, name="conv")(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class Features(nn.Module):
    """All but the classifier."""

    sizes: tuple[int, ...]
    growth: int
    drop: nn.Module
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Computes the last feature map."""
        x = self.conv(2 * self.growth, 7, 2, name="conv0")(images)
        x = nn.relu(self.norm(name="norm0")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for number, size in enumerate(self.sizes, 1):
            x = DenseBlock(
                size,
                self.growth,
                self.drop,
                self.conv,
                self.norm,
                name=f"denseblock{number}",
            )(x)
            if number < len(self.sizes):
                x = Transition(self.conv, self.norm, name=f"transition{number}")(x)
        return nn.relu(self.norm(name="norm5")(x))


class DenseNet(nn.Module):
    """DenseNet-BC.

    Attributes:
      sizes: Number of layers of each of the four blocks.
      num_classes: Size of the logits.
      growth: Number of channels that a layer adds.
      dropout: Rate of the dropout after every layer, in training; torchvision trains
        without.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("dropout",)

    sizes: tuple[int, ...]
    num_classes: int
    growth: int = 32
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        check_image_size("densenet", images, least=29)
        x = Features(
            self.sizes,
            self.growth,
            dropout(self.dropout, train=train),
            partial(conv, init=_by_inputs, dtype=self.dtype),
            partial(BatchNorm, train=train, dtype=self.dtype),
            name="features",
        )(images)
        return head(self.num_classes, dtype=self.dtype, name="classifier")(
            global_mean(tap(self, x))
        )
