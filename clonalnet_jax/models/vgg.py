"""VGG (Simonyan and Zisserman 2015): torchvision's, and RepDistiller's for CIFAR."""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    BatchNorm,
    check_image_size,
    conv,
    dense,
    dropout,
    global_mean,
    head,
)

_WIDTHS = (64, 128, 256, 512, 512)


class Vgg(nn.Module):
    """Five blocks of 3x3 convolutions with max pooling between them (Simonyan 2015).

    As in the reference, there is pooling before the last block only for images that
    are 64 pixels high (Tiny-ImageNet).

    Attributes:
      block_sizes: Number of convolutions in each of the five blocks.
      num_classes: Size of the logits.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ()

    block_sizes: tuple[int, ...]
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        check_image_size("vgg", images, least=8)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x, pools = images, 4 if images.shape[1] == 64 else 3
        for block, (size, width) in enumerate(
            zip(self.block_sizes, _WIDTHS, strict=True)
        ):
            for index in range(size):
                # PyTorch numbers the ReLU too, which has no weights: 3 a layer.
                name = f"block{block}_{3 * index}"
                x = conv(width, 3, bias=True, dtype=self.dtype, name=name)(x)
                x = nn.relu(norm(name=f"block{block}_{3 * index + 1}")(x))
            if block < pools:
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = global_mean(tap(self, x))
        init = nn.initializers.normal(0.01)
        return head(self.num_classes, init=init, dtype=self.dtype, name="classifier")(x)


class LargeVgg(nn.Module):
    """VGG for ImageNet, with two hidden layers before the classifier.

    Attributes:
      block_sizes: Number of convolutions in each of the five blocks.
      num_classes: Size of the logits.
      batch_norm: Whether there is batch norm behind every convolution.
      hidden: Width of both hidden layers.
      dropout: Rate of the dropout behind both hidden layers, in training; torchvision
        trains with 0.5.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("dropout",)

    block_sizes: tuple[int, ...]
    num_classes: int
    batch_norm: bool = False
    hidden: int = 4096
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits. If `train`, batch norm uses the batch's statistics."""
        check_image_size("vgg", images, least=32)
        norm = partial(BatchNorm, train=train, dtype=self.dtype)
        x, layer = images, 0  # PyTorch numbers activations and pooling, too.
        for size, width in zip(self.block_sizes, _WIDTHS, strict=True):
            for _ in range(size):
                name = f"features_{layer}"
                x = conv(width, 3, bias=True, dtype=self.dtype, name=name)(x)
                if self.batch_norm:
                    x = norm(name=f"features_{layer + 1}")(x)
                x = nn.relu(x)
                layer += 3 if self.batch_norm else 2
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            layer += 1
        x = _seven_by_seven(tap(self, x))
        # As PyTorch lays the features out: channels first.
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        init = nn.initializers.normal(0.01)
        for name in ("classifier_0", "classifier_3"):
            x = nn.relu(dense(self.hidden, init=init, dtype=self.dtype, name=name)(x))
            x = dropout(self.dropout, train=train)(x)
        return head(self.num_classes, init=init, dtype=self.dtype, name="classifier_6")(
            x
        )


def _seven_by_seven(x: Float[Array, "b h w c"]) -> Float[Array, "b 7 7 c"]:
    """Averages, as PyTorch's AdaptiveAvgPool2d; also repeats where there is less."""
    for axis in (1, 2):
        side = x.shape[axis]
        parts = [
            x.take(jnp.arange(i * side // 7, -(-(i + 1) * side // 7)), axis).mean(
                axis, keepdims=True
            )
            for i in range(7)
        ]
        x = x if side == 7 else jnp.concatenate(parts, axis)
    return x
