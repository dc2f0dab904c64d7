"""VGG for small images, with batch norm and one dense layer, as in RepDistiller."""

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
