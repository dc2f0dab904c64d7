"""The features that every network computes last, and gradients with respect to them.

Each network passes its last feature map, what global pooling is about to average,
through `tap`. The map is then within reach of Grad-CAM and of distillation without
any change to the network, and costs nothing where nobody asks for it.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def tap(module: nn.Module, x: Array) -> Array:
    """Marks `x` as the features of a network; called once, in its `__call__`.

    Args:
      module: the network itself, not one of its blocks.
      x: `[b, h, w, c]`, or `[b, tokens, c]` for transformers.

    Returns:
      `x`, plus `perturbations/features` where that is among the variables.
    """
    module.sow("intermediates", "features", x, init_fn=tuple, reduce_fn=lambda _, x: x)
    if module.has_variable("perturbations", "features"):
        x = x + module.get_variable("perturbations", "features")
    return x


def logits_and_features(
    model: nn.Module, variables: Any, images: Float[Array, "b h w c"]
) -> tuple[Float[Array, "b classes"], Array]:
    """One forward pass in eval mode.

    Args:
      model: a network of `clonalnet_jax.models`.
      variables: its `params` and `batch_stats`.
      images: as the network takes them.

    Returns:
      The logits and the features, `[b, h, w, c]` or, for transformers, the tokens
      `[b, 1 + h * w, c]` that enter the last block's attention, class token first.
    """
    logits, state = model.apply(
        variables, images, train=False, mutable=["intermediates"]
    )
    return logits, state["intermediates"]["features"]


def feature_gradient(
    model: nn.Module,
    variables: Any,
    images: Float[Array, "b h w c"],
    objective: Callable[[Float[Array, "b classes"]], Float[Array, ""]],
) -> tuple[Float[Array, "b classes"], Array, Array]:
    """The gradient of a function of the logits with respect to the features.

    Args:
      model: a network of `clonalnet_jax.models`.
      variables: its `params` and `batch_stats`.
      images: as the network takes them.
      objective: logits to a scalar; for Grad-CAM the sum over the batch of each
        example's logit of interest.

    Returns:
      The logits, the features and the gradient, shaped like the features.
    """
    _, shape = jax.eval_shape(
        lambda x: logits_and_features(model, variables, x), images
    )

    def perturbed(perturbation: Array) -> tuple[Array, tuple[Array, Array]]:
        logits, features = logits_and_features(
            model, {**variables, "perturbations": {"features": perturbation}}, images
        )
        return objective(logits), (logits, features)

    zeros = jnp.zeros(shape.shape, shape.dtype)
    gradient, (logits, features) = jax.grad(perturbed, has_aux=True)(zeros)
    return logits, features, gradient
