"""The features that every network computes last, and gradients with respect to them.

Each network passes its last feature map through `tap`, before global pooling averages
it. Grad-CAM and distillation can then read the map without any change to the network.
If nobody asks for the map, it costs nothing.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clonalnet_jax.models.protocol import Model

# Not "features": a network may have a part of that name.
TAPPED = "last_features"


def tap(module: nn.Module, x: Array) -> Array:
    """Marks `x` as the features of a network, which calls this once in `__call__`.

    Args:
      module: The network itself, not one of its blocks.
      x: The features, `[b, h, w, c]`, or `[b, tokens, c]` for transformers.

    Returns:
      `x`, plus `perturbations/last_features` if the variables contain it.
    """
    module.sow("intermediates", TAPPED, x, init_fn=tuple, reduce_fn=lambda _, x: x)
    if module.has_variable("perturbations", TAPPED):
        x = x + module.get_variable("perturbations", TAPPED)
    return x


def marks_features(model: Model, variables: Any, images: Any) -> bool:
    """Whether a network passes its features through `tap`: all of ours do.

    Args:
      model: The network.
      variables: The network's `params` and `batch_stats`, or their shapes.
      images: Images `[b, h, w, c]`, or their shape.

    Returns:
      Whether `logits_and_features` finds them.
    """
    _, state = jax.eval_shape(
        lambda variables, images: model.apply(
            variables, images, train=False, mutable=["intermediates"]
        ),
        variables,
        images,
    )
    return TAPPED in state.get("intermediates", {})


def logits_and_features(
    model: Model, variables: Any, images: Float[Array, "b h w c"]
) -> tuple[Float[Array, "b classes"], Array]:
    """Runs one forward pass in eval mode.

    Args:
      model: A network of `clonalnet_jax.models`.
      variables: The network's `params` and `batch_stats`.
      images: Images `[b, h, w, c]`, normalised as the network expects them.

    Returns:
      The logits and the features. The features are `[b, h, w, c]`. For transformers
      they are the tokens `[b, 1 + h * w, c]` that enter the attention of the last
      block, with the class token first.
    """
    logits, state = model.apply(
        variables, images, train=False, mutable=["intermediates"]
    )
    return logits, state["intermediates"][TAPPED]


def feature_gradient(
    model: Model,
    variables: Any,
    images: Float[Array, "b h w c"],
    objective: Callable[[Float[Array, "b classes"]], Float[Array, ""]],
) -> tuple[Float[Array, "b classes"], Array, Array]:
    """Differentiates a function of the logits with respect to the features.

    Args:
      model: A network of `clonalnet_jax.models`.
      variables: The network's `params` and `batch_stats`.
      images: Images `[b, h, w, c]`, normalised as the network expects them.
      objective: Function from the logits to a scalar. For Grad-CAM it is the sum over
        the batch of each example's logit of interest.

    Returns:
      The logits, the features and the gradient, which has the shape of the features.
    """
    _, shape = jax.eval_shape(
        lambda x: logits_and_features(model, variables, x), images
    )

    def perturbed(perturbation: Array) -> tuple[Array, tuple[Array, Array]]:
        logits, features = logits_and_features(
            model, {**variables, "perturbations": {TAPPED: perturbation}}, images
        )
        return objective(logits), (logits, features)

    zeros = jnp.zeros(shape.shape, shape.dtype)
    gradient, (logits, features) = jax.grad(perturbed, has_aux=True)(zeros)
    return logits, features, gradient
