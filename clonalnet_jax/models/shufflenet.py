"""ShuffleNet v1 and v2 for small images, as RepDistiller defines them."""

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
    shuffle_channels,
    torch_default,
    torch_default_bias,
)


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolutions around a depthwise one (Zhang et al. 2018, fig. 2).

    Attributes:
      width: Number of channels of the result. With a stride of 2 the pooled input is
        among them.
      stride: Stride of the unit, 1 or 2.
      groups: Number of groups of the 1x1 convolutions.
      conv: Function that makes a convolution.
      norm: Function that makes a batch norm.
    """

    width: int
    stride: int
    groups: int
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        down = self.stride == 2
        added = self.width - x.shape[-1] if down else self.width
        inner = added // 4
        # The stem gives only 24 channels, which the reference does not group.
        groups = 1 if x.shape[-1] == 24 else self.groups
        y = self.conv(inner, 1, groups=groups, name="conv1")(x)
        y = shuffle_channels(nn.relu(self.norm(name="bn1")(y)), groups)
        y = self.conv(inner, 3, self.stride, groups=inner, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.norm(name="bn3")(
            self.conv(added, 1, groups=self.groups, name="conv3")(y)
        )
        if not down:
            return nn.relu(x + y)
        x = nn.avg_pool(
            x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
        )
        return nn.relu(jnp.concatenate([y, x], axis=-1))


class SplitUnit(nn.Module):
    """Convolves half of the channels, keeps the others (Ma et al. 2018, fig. 3c)."""

    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns an array of the same shape."""
        kept, y = jnp.split(x, 2, axis=-1)
        width = y.shape[-1]
        y = nn.relu(self.norm(name="bn1")(self.conv(width, 1, name="conv1")(y)))
        y = self.norm(name="bn2")(self.conv(width, 3, groups=width, name="conv2")(y))
        y = nn.relu(self.norm(name="bn3")(self.conv(width, 1, name="conv3")(y)))
        return shuffle_channels(jnp.concatenate([kept, y], axis=-1), 2)


class DownUnit(nn.Module):
    """Joins two convolved branches of stride 2 (Ma et al. 2018, fig. 3d)."""

    width: int
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / 2, w / 2, width]`."""
        channels, half = x.shape[-1], self.width // 2
        a = self.norm(name="bn1")(
            self.conv(channels, 3, 2, groups=channels, name="conv1")(x)
        )
        a = nn.relu(self.norm(name="bn2")(self.conv(half, 1, name="conv2")(a)))
        b = nn.relu(self.norm(name="bn3")(self.conv(half, 1, name="conv3")(x)))
        b = self.norm(name="bn4")(self.conv(half, 3, 2, groups=half, name="conv4")(b))
        b = nn.relu(self.norm(name="bn5")(self.conv(half, 1, name="conv5")(b)))
        return shuffle_channels(jnp.concatenate([a, b], axis=-1), 2)


class ShuffleNet(nn.Module):
    """Three stages of units with shuffled channels, after a 1x1 stem.

    Attributes:
      version: Version of the network: 1 (Zhang et al. 2018, 3 groups) or 2 (Ma et al.
        2018, size 1).
      num_classes: Size of the logits.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ()

    version: int
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        make_conv = partial(conv, init=torch_default, dtype=self.dtype)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x = nn.relu(norm(name="bn1")(make_conv(24, 1, name="conv1")(images)))
        width = 240 if self.version == 1 else 116
        for stage, size in enumerate((4, 8, 4)):
            for index in range(size):
                unit = self._unit(width * 2**stage, down=index == 0)
                name = f"layer{stage + 1}_{index}"
                x = unit(conv=make_conv, norm=norm, name=name)(x)
        if self.version == 2:
            x = nn.relu(norm(name="bn2")(make_conv(1024, 1, name="conv2")(x)))
        x = global_mean(tap(self, x))
        bias_init = torch_default_bias(x.shape[-1])
        return head(
            self.num_classes, bias_init=bias_init, dtype=self.dtype, name="linear"
        )(x)

    def _unit(self, width: int, *, down: bool) -> ModuleFactory:
        if self.version == 1:
            return partial(ShuffleUnit, width=width, stride=1 + down, groups=3)
        return partial(DownUnit, width=width) if down else SplitUnit
