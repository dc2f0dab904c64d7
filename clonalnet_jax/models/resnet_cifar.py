"""The CIFAR ResNet family, for images of 8x8 to 64x64 pixels."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError

# PyTorch's initialisation, which the literature's accuracies rest on.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
dense_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

ModuleFactory = Callable[..., nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, fig. 5 left)."""

    width: int
    stride: int
    conv: ModuleFactory
    norm: ModuleFactory

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Maps `[b, h, w, c]` to `[b, h / stride, w / stride, width]`."""
        stride = (self.stride, self.stride)
        y = self.conv(self.width, (3, 3), stride, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        if x.shape != y.shape:
            x = self.conv(self.width, (1, 1), stride, padding=0, name="downsample_0")(x)
            x = self.norm(name="downsample_1")(x)
        return nn.relu(x + y)


class ResNetCifar(nn.Module):
    """ResNet of depth 6n + 2 (He et al. 2016, section 4.2).

    Three stages of n blocks, of width `width`, `2 width` and `4 width`, with 1x1
    convolutions where a shortcut changes shape (as in RepDistiller, whose names
    `resnet8x4` and `resnet32x4` mean width 64 behind a stem of 32).

    Attributes:
      depth: 6n + 2.
      num_classes: size of the logits.
      width: of the first stage.
      stem_width: of the first convolution; None for `width`.
      stem_stride: 2 quarters the work, for large images or small machines.
      dtype: of the computation.
    """

    depth: int
    num_classes: int
    width: int = 16
    stem_width: int | None = None
    stem_stride: int = 1
    dtype: DTypeLike = jnp.float32

    def check(self) -> None:
        """Raises `UserError` for fields that make no network."""
        fields = ("num_classes", "width", "stem_stride", "stem_width")
        for field in fields:
            value = getattr(self, field)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise UserError(
                    f"resnet{self.depth}: {field}",
                    got=repr(value),
                    expected="a positive integer",
                    remedy=f"set the model's option {field}",
                )

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Images to logits; batch norm uses the batch's statistics where `train`."""
        conv = partial(nn.Conv, use_bias=False, kernel_init=conv_init, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        stem = self.stem_width or self.width
        stem_stride = (self.stem_stride, self.stem_stride)
        x = conv(stem, (3, 3), stem_stride, padding=1, name="conv1")(images)
        x = nn.relu(norm(name="bn1")(x))
        for stage in range(3):
            for index in range((self.depth - 2) // 6):
                x = BasicBlock(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    name=f"layer{stage + 1}_{index}",
                )(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(
            self.num_classes, kernel_init=dense_init, dtype=self.dtype, name="fc"
        )(x)
