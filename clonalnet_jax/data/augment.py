"""Augmentation and normalisation, inside the jitted step.

Randomness is counter-based: the key of an example is folded from (seed, epoch,
example index), so an image is augmented alike on one device or a thousand.
"""

from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def make_prepare(
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop_padding: int,
    flip: bool,
) -> Callable[[Mapping[str, Array], chex.PRNGKey | None], Float[Array, "b h w c"]]:
    """Builds the function from a batch to the network's input.

    Args:
      mean: per channel, of pixels in [0, 1]; or one value for all channels.
      std: likewise.
      crop_padding: pixels of black around the image before a random crop of its
        size; 0 for none.
      flip: whether to mirror left and right, half of the time.

    Returns:
      `(batch, key) -> images`. The batch has `image` uint8 `[b, h, w, c]`, `epoch`
      and `index` `[b]`; with key None (evaluation) nothing is random and the last
      two are not read. The images are float32.
    """

    def prepare(
        batch: Mapping[str, Array], key: chex.PRNGKey | None
    ) -> Float[Array, "b h w c"]:
        images = batch["image"].astype(jnp.float32) / 255.0
        if key is not None and (crop_padding or flip):
            keys = jax.vmap(_example_key, in_axes=(None, 0, 0))(
                key, batch["epoch"], batch["index"]
            )
            images = jax.vmap(_augment, in_axes=(0, 0, None, None))(
                keys, images, crop_padding, flip
            )
        return (images - jnp.asarray(mean)) / jnp.asarray(std)

    return prepare


def _example_key(
    key: chex.PRNGKey, epoch: Num[Array, ""], index: Num[Array, ""]
) -> chex.PRNGKey:
    return jax.random.fold_in(jax.random.fold_in(key, epoch), index)


def _augment(
    key: chex.PRNGKey, image: Float[Array, "h w c"], crop_padding: int, flip: bool
) -> Float[Array, "h w c"]:
    crop_key, flip_key = jax.random.split(key)
    if crop_padding:
        border = (crop_padding, crop_padding)
        padded = jnp.pad(image, (border, border, (0, 0)))
        row, column = jax.random.randint(crop_key, (2,), 0, 2 * crop_padding + 1)
        image = jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)
    if flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return image
