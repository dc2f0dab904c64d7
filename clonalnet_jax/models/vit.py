"""Vision transformers (Dosovitskiy et al. 2021), with timm's definition and names."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.attention import Projections, attend
from clonalnet_jax.models.features import tap
from clonalnet_jax.models.layers import (
    Mlp,
    conv,
    dense,
    dropout,
    head,
    layer_norm,
    narrow_normal,
    stochastic_depth,
    torch_default,
    torch_default_bias,
)
from clonalnet_jax.models.switches import while_set

# Every layer computes what fills up, too: the most of it, as a share of the tokens.
_MOST_FILLING = 0.03
_in_eights = contextvars.ContextVar("tokens_in_eights", default=False)


@contextlib.contextmanager
def tokens_in_eights(wanted: bool = True) -> Iterator[None]:
    """Makes networks in bfloat16 that are traced inside the block fill up their tokens.

    A GPU's matrix units take such numbers in eights. Where tokens do not come in
    eights, XLA copies the operands of every product of an attention to fill them up.
    Tokens of zeros from the start, which no other token looks at, spare that.

    Args:
      wanted: Whether to fill up. False switches it off inside the block.

    Yields:
      Nothing.
    """
    with while_set(_in_eights, wanted):
        yield


def _filling(tokens: int, dtype: DTypeLike) -> int:
    """The number of tokens that fill up."""
    filling = -tokens % 8
    worth = jnp.dtype(dtype).itemsize == 2 and filling <= _MOST_FILLING * tokens
    return filling if worth and _in_eights.get() else 0


class PatchEmbed(nn.Module):
    """Makes one token per patch. Pixels beyond the last whole patch are left out."""

    width: int
    patch: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b n width"]:
        """Computes the tokens of the patches, row by row."""
        x = conv(
            self.width,
            self.patch,
            self.patch,
            bias=True,
            init=torch_default,
            bias_init=torch_default_bias(self.patch**2 * images.shape[-1]),
            dtype=self.dtype,
            name="proj",
        )(images)
        return x.reshape(x.shape[0], -1, self.width)


class Attention(nn.Module):
    """Self-attention. One dense layer gives the queries, keys and values.

    Attributes:
      num_heads: Number of heads.
      tokens: Number of tokens that are looked at, the first ones.
      dtype: Dtype of the computation.
    """

    num_heads: int
    tokens: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Returns an array of the same shape."""
        batch, length, width = x.shape
        heads = batch, length, self.num_heads, width // self.num_heads
        query, key, value = (
            part.reshape(heads) for part in Projections(self.dtype, name="qkv")(x)
        )
        seen = jnp.arange(length) < self.tokens if length > self.tokens else None
        y = attend(query, key, value, seen=seen)
        layer = dense(width, init=narrow_normal, dtype=self.dtype, name="proj")
        return layer(y.reshape(x.shape))


class Block(nn.Module):
    """Attention and an MLP. Each follows a norm and has a shortcut beside it.

    Attributes:
      num_heads: Number of heads of the attention.
      tokens: Number of tokens, without those that fill up.
      drop: The module that both branches pass before they are added.
      dtype: Dtype of the computation.
    """

    num_heads: int
    tokens: int
    drop: nn.Module
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], watch: Callable[[Array], Array] | None = None
    ) -> Float[Array, "b n c"]:
        """Keeps the shape; `watch` sees, and may change, the attention's tokens."""
        norm = partial(layer_norm, dtype=self.dtype)
        y = norm(name="norm1")(x)
        if watch is not None:
            seen = watch(y[:, : self.tokens])
            y = jnp.concatenate([seen, y[:, self.tokens :]], axis=1)
        attention = Attention(self.num_heads, self.tokens, self.dtype, name="attn")
        x = x + self.drop(attention(y))
        y = norm(name="norm2")(x)
        kept: Array = self.drop(Mlp(4 * x.shape[-1], self.dtype, name="mlp")(y))
        return x + kept


class VisionTransformer(nn.Module):
    """ViT with a class token, and DeiT (Touvron et al. 2021) without its second one.

    The features of `models.features` are the tokens after the first norm of the last
    block. This is the usual place for Grad-CAM, because after the attention of that
    block only the class token affects the logits.

    Attributes:
      num_classes: Size of the logits.
      width: Number of channels of a token.
      num_heads: Number of heads of each attention.
      depth: Number of blocks.
      patch: Side of a patch, in pixels.
      image_size: Side of the images, in pixels. It fixes the number of positions.
      stochastic_depth: Rate at which the last block's branches are dropped in training.
        That of the others falls to 0 towards the first; DeiT was trained with 0.1.
      dropout: Rate of the dropout before the classifier, in training.
      dtype: Dtype of the computation up to the classifier.
    """

    options: ClassVar = ("image_size", "stochastic_depth", "dropout")

    num_classes: int
    width: int
    num_heads: int
    depth: int = 12
    patch: int = 16
    image_size: int = 224
    stochastic_depth: float = 0.0
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b classes"]:
        """Computes logits; `train` matters to dropout and stochastic depth alone.

        Raises:
          UserError: The images are not `image_size` pixels high and wide.
        """
        self._check_size(images.shape[1:3])
        x = PatchEmbed(self.width, self.patch, self.dtype, name="patch_embed")(images)
        token = self.param(
            "cls_token", nn.initializers.normal(1e-6), (1, 1, self.width)
        )
        positions = self.param(
            "pos_embed", narrow_normal, (1, 1 + x.shape[1], self.width)
        )
        token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
        x = jnp.concatenate([token.astype(self.dtype), x], axis=1)
        x = (x + positions).astype(self.dtype)
        tokens = x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, _filling(tokens, self.dtype)), (0, 0)))
        for index in range(self.depth):
            watch = partial(tap, self) if index == self.depth - 1 else None
            rate = self.stochastic_depth * index / max(self.depth - 1, 1)
            x = Block(
                self.num_heads,
                tokens,
                stochastic_depth(rate, train=train, axes=(1, 2)),
                self.dtype,
                name=f"blocks_{index}",
            )(x, watch)
        x = layer_norm(dtype=self.dtype, name="norm")(x[:, 0])
        x = dropout(self.dropout, train=train)(x)
        return head(
            self.num_classes, init=narrow_normal, dtype=self.dtype, name="head"
        )(x)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if self.image_size < self.patch:
            raise UserError(
                "vit: image_size",
                got=str(self.image_size),
                expected=f"at least one patch of {self.patch} pixels",
                remedy="set a larger image_size",
            )
        if shape != (self.image_size, self.image_size):
            raise UserError(
                "vit: the images are of another size than the network",
                got=f"{shape[0]}x{shape[1]} pixels",
                expected=f"{self.image_size}x{self.image_size}",
                remedy=f"resize them, or set the model's option image_size={shape[0]}"
                if shape[0] == shape[1]
                else "resize or crop them to squares",
            )
