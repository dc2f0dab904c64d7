"""Where a network looks: Grad-CAM, and whether its peak lies on the object."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num

from clonalnet_jax.models import feature_gradient
from clonalnet_jax.models.protocol import Model


def grad_cam(
    model: Model,
    variables: Any,
    images: Float[Array, "b h w c"],
    targets: Int[ArrayLike, " b"] | None = None,
) -> tuple[Float[Array, "b classes"], Float[Array, "b h w"]]:
    """Grad-CAM at the features that the network computes last; pure, to be jitted.

    Selvaraju et al. 2017 (arXiv 1610.02391), equations 1 and 2: channels are weighted
    by the mean gradient of the target's logit, summed, and cut off below 0.

    Args:
      model: A network of `clonalnet_jax.models`.
      variables: Its `params` and `batch_stats`.
      images: Normalised, as the network takes them.
      targets: The class to explain for each image; None for the network's answer.

    Returns:
      The logits, and a heat map an image, float32: bilinear to the images' size, with
      the maximum 1, or 0 everywhere where no evidence speaks for the class.
    """

    def objective(logits: Float[Array, "b classes"]) -> Float[Array, ""]:
        # The gradient is that of one logit of each image; argmax itself has none.
        answers = jnp.argmax(logits, axis=-1)
        chosen = answers if targets is None else jnp.asarray(targets)
        return jnp.sum(jnp.take_along_axis(logits, chosen[:, None], axis=-1))

    logits, features, gradient = feature_gradient(model, variables, images, objective)
    features, gradient = (_as_map(x.astype(jnp.float32)) for x in (features, gradient))
    weights = jnp.mean(gradient, axis=(1, 2), keepdims=True)
    heat = jax.nn.relu(jnp.sum(weights * features, axis=-1))
    heat = jax.image.resize(heat, images.shape[:3], "bilinear")
    peak = jnp.max(heat, axis=(1, 2), keepdims=True)
    return logits, jnp.where(peak > 0, heat / jnp.where(peak > 0, peak, 1.0), 0.0)


def peak_in_box(
    heatmaps: Float[Array, "b h w"], boxes: Num[ArrayLike, "b 4"]
) -> Bool[Array, " b"]:
    """Whether a heat map's peak lies inside a box.

    Args:
      heatmaps: `[b, h, w]`, such as from `grad_cam`.
      boxes: `[b, 4]`, as `x0, y0, x1, y1` in pixels of the heat map, both ends
        inside, as Tiny-ImageNet has them.

    Returns:
      One truth an image; a heat map that is 0 everywhere has no peak and is False.
      Several peaks of one height count by their centre.
    """
    height, width = heatmaps.shape[1:]
    top = jnp.max(heatmaps, axis=(1, 2), keepdims=True)
    peaks = (heatmaps == top) & (top > 0)
    count = jnp.maximum(jnp.sum(peaks, axis=(1, 2)), 1)
    x = jnp.sum(peaks * jnp.arange(width), axis=(1, 2)) / count
    y = jnp.sum(peaks * jnp.arange(height)[:, None], axis=(1, 2)) / count
    x0, y0, x1, y1 = jnp.asarray(boxes).T
    inside = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
    return inside & (top[:, 0, 0] > 0)


def _as_map(x: Array) -> Float[Array, "b h w c"]:
    """Tokens of a transformer as a grid, without the class token; a map as it is."""
    if x.ndim == 4:
        return x
    side = math.isqrt(x.shape[1] - 1)
    return x[:, 1:].reshape(x.shape[0], side, side, x.shape[2])
