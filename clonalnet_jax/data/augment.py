"""Augmentation and normalisation, inside the jitted step.

Randomness is counter-based: the key of an example is folded from (seed, epoch,
example index), so an image is augmented alike on one device or a thousand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, Shaped
from ml_collections import ConfigDict

from clonalnet_jax.data.mixing import mix
from clonalnet_jax.state import PreprocessFn


def make_preprocess(
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop_padding: int = 0,
    flip: bool = False,
    cutout: int = 0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    num_classes: int = 0,
) -> PreprocessFn:
    """Builds the function from a batch to the network's input.

    Args:
      mean: Mean of each channel, of pixels in [0, 1]; or one value for all channels.
      std: Standard deviation of each channel, or one value for all channels.
      crop_padding: Pixels of black around the image before a random crop of its
        size; 0 for none.
      flip: Whether to mirror left and right, half of the time.
      cutout: Side in pixels of a square, centred anywhere, that is set to the mean
        (DeVries and Taylor 2017, arXiv 1708.04552); 0 for none.
      mixup_alpha: Strength of mixup; 0 for none. `mixing.mix` says more.
      cutmix_alpha: Strength of cutmix; 0 for none.
      num_classes: Number of classes; read only where images are mixed.

    Returns:
      `(batch, key) -> (images, labels)`. The batch has `image` uint8 `[b, h, w, c]`,
      `label`, `epoch` and `index` `[b]`; with key None (evaluation) nothing is random
      and the last two are not read. The images are float32. The labels are those of
      the batch or, where images are mixed, float32 distributions `[b, classes]`.
    """

    def preprocess(
        batch: Mapping[str, Array], key: chex.PRNGKey | None
    ) -> tuple[Float[Array, "b h w c"], Shaped[Array, "b ..."]]:
        images, labels = batch["image"].astype(jnp.float32) / 255.0, batch["label"]
        random = crop_padding or flip or cutout or mixup_alpha or cutmix_alpha
        if key is None or not random:
            return _normalise(images, mean, std), labels
        keys = jax.vmap(_example_keys, in_axes=(None, 0, 0))(
            key, batch["epoch"], batch["index"]
        )
        if crop_padding:
            images = jax.vmap(_crop, in_axes=(0, 0, None))(
                keys[:, 0], images, crop_padding
            )
        if flip:
            images = jax.vmap(_flip)(keys[:, 1], images)
        images = _normalise(images, mean, std)
        if cutout:
            images = jax.vmap(_cut_out, in_axes=(0, 0, None))(
                keys[:, 2], images, cutout
            )
        if mixup_alpha or cutmix_alpha:
            images, labels = mix(
                keys[:, 3],
                images,
                jax.nn.one_hot(labels, num_classes),
                mixup_alpha=mixup_alpha,
                cutmix_alpha=cutmix_alpha,
            )
        return images, labels

    return preprocess


def preprocess_options(config: ConfigDict) -> dict[str, Any]:
    """The arguments of `make_preprocess` that `config.data` holds."""
    names = ("mean", "std", "crop_padding", "flip", "cutout", "mixup_alpha")
    return {name: config[name] for name in (*names, "cutmix_alpha")}


def _normalise(
    images: Float[Array, "b h w c"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "b h w c"]:
    return (images - jnp.asarray(mean)) / jnp.asarray(std)


def _example_keys(
    key: chex.PRNGKey, epoch: Num[Array, ""], index: Num[Array, ""]
) -> chex.PRNGKey:
    """A key for each kind of augmentation, so that one more changes no other."""
    own = jax.random.fold_in(jax.random.fold_in(key, epoch), index)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own, jnp.arange(4))


def _crop(
    key: chex.PRNGKey, image: Float[Array, "h w c"], padding: int
) -> Float[Array, "h w c"]:
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def _flip(key: chex.PRNGKey, image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def _cut_out(
    key: chex.PRNGKey, image: Float[Array, "h w c"], side: int
) -> Float[Array, "h w c"]:
    height, width, _ = image.shape
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (), 0, height) - side // 2
    left = jax.random.randint(column_key, (), 0, width) - side // 2
    rows = _within(jnp.arange(height), top, side)
    columns = _within(jnp.arange(width), left, side)
    return jnp.where((rows[:, None] & columns)[..., None], 0.0, image)


def _within(places: Array, start: Array, length: int) -> Array:
    return (places >= start) & (places < start + length)
