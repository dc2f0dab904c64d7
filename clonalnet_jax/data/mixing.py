"""Mixup and cutmix: images of a batch mixed in pairs, and their labels with them."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def mix(
    keys: chex.PRNGKey,
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b classes"],
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b classes"]]:
    """Mixes every image with the one before it in the batch.

    With both alphas above 0 every example takes one of the two, with equal chance.

    Args:
      keys: A key for each example, `[b]`.
      images: The images, `[b, h, w, c]`.
      labels: Their labels as distributions, `[b, classes]`.
      mixup_alpha: The share of an image is drawn from Beta(alpha, alpha) (Zhang et al.
        2018, arXiv 1710.09412); 0 for no mixup.
      cutmix_alpha: The share that a pasted box leaves of an image is drawn in the
        same way (Yun et al. 2019, arXiv 1905.04899); 0 for no cutmix.

    Returns:
      Images `[b, h, w, c]`, and labels `[b, classes]` that still add up to 1.
    """
    use_cutmix = jnp.full(len(images), bool(cutmix_alpha))
    if mixup_alpha and cutmix_alpha:
        use_cutmix = jax.vmap(jax.random.bernoulli)(_stream(keys, 0))
    share = jnp.ones(images.shape[:3])
    if mixup_alpha:
        shares = _beta(_stream(keys, 1), mixup_alpha)
        share = jnp.where(use_cutmix[:, None, None], share, shares[:, None, None])
    if cutmix_alpha:
        shares = _beta(_stream(keys, 2), cutmix_alpha)
        height, width = images.shape[1:3]
        boxes = jax.vmap(_outside_box, in_axes=(0, 0, None, None))(
            _stream(keys, 3), shares, height, width
        )
        share = jnp.where(use_cutmix[:, None, None], boxes, share)
    # A label's share is the share of its image that is left, clipped boxes included.
    weight = jnp.mean(share, axis=(1, 2))[:, None]
    images = _blend(share[..., None], images)
    return images, _blend(weight, labels)


def _blend(share: Float[Array, "b ..."], values: Float[Array, "b ..."]) -> Array:
    return share * values + (1 - share) * jnp.roll(values, 1, axis=0)


def _stream(keys: chex.PRNGKey, number: int) -> chex.PRNGKey:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _beta(keys: chex.PRNGKey, alpha: float) -> Float[Array, " b"]:
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def _outside_box(
    key: chex.PRNGKey, share: Float[Array, ""], height: int, width: int
) -> Float[Array, "h w"]:
    """1 outside a box of (1 - share) of the area, centred anywhere; 0 inside."""
    row_key, column_key = jax.random.split(key)
    side = jnp.sqrt(1 - share)
    rows = _inside(row_key, side, height)
    columns = _inside(column_key, side, width)
    return 1.0 - rows[:, None] * columns


def _inside(key: chex.PRNGKey, side: Float[Array, ""], length: int) -> Array:
    centre = jax.random.randint(key, (), 0, length)
    half = jnp.floor(side * length / 2).astype(jnp.int32)
    places = jnp.arange(length)
    return ((places >= centre - half) & (places < centre + half)).astype(jnp.float32)
