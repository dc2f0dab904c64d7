"""Batch norm folded into the convolutions before it, for a network that is frozen.

In eval mode batch norm is `gain * x + shift` with constants, so a convolution that
feeds it can be scaled once and for all: `gain * conv(x) = conv'(x)`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from clonalnet_jax.models import eval_logits
from clonalnet_jax.models.layers import BatchNorm
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import ForwardFn, Variables
from clonalnet_jax.weights.structure import norms_after_convolutions


def fold_batch_norm(
    model: Model, variables: Variables, image_shape: tuple[int, int, int]
) -> tuple[ForwardFn, dict[str, Any]]:
    """Folds every batch norm that directly follows a convolution.

    Args:
      model: A network of `clonalnet_jax.models`.
      variables: Its `params` and `batch_stats`.
      image_shape: `(height, width, channels)`.

    Returns:
      `forward(folded, images) -> logits`, in eval mode, and the `folded` variables.
      A batch norm that follows no convolution stays as it is.
    """
    forward, fold = _folding(model, image_shape)
    return forward, fold(variables)


@made_once
def _folding(
    model: Model, image_shape: tuple[int, int, int]
) -> tuple[ForwardFn, Callable[[Variables], dict[str, Any]]]:
    pairs = norms_after_convolutions(model, image_shape)
    if not pairs:
        return partial(eval_logits, model), dict

    # One program: by itself, each operation is compiled for each shape.
    @jax.jit
    def fold(variables: Variables) -> dict[str, Any]:
        params = flatten_dict(dict(variables["params"]))
        stats = flatten_dict(dict(variables.get("batch_stats", {})))
        for norm, (conv, epsilon) in pairs.items():
            variance, mean = stats.pop((*norm, "var")), stats.pop((*norm, "mean"))
            gain = params.pop((*norm, "scale")) * jax.lax.rsqrt(variance + epsilon)
            for leaf in ("kernel", "bias"):
                if (*conv, leaf) in params:
                    params[*conv, leaf] = params[*conv, leaf] * gain
            params[*norm, "bias"] = params[*norm, "bias"] - gain * mean
        return {"params": unflatten_dict(params), "batch_stats": unflatten_dict(stats)}

    def add_shift(
        call: Callable[..., Any], args: Any, kwargs: Any, context: Any
    ) -> Any:
        module: Any = context.module
        if not (isinstance(module, BatchNorm) and module.path in pairs):
            return call(*args, **kwargs)
        # In the type of the convolution, so that XLA can give cuDNN both of them and
        # the ReLU as one kernel; a float32 shift would keep them apart. What that saves
        # and how little the rounded shift changes of the answers: docs/compiled.md.
        shift: Array = module.get_variable("params", "bias")
        return args[0] + shift.astype(args[0].dtype)

    def forward(variables: Any, images: Float[Array, "b h w c"]) -> Array:
        with nn.intercept_methods(add_shift):
            logits: Any = model.apply(variables, images, train=False)
        return logits

    return forward, fold
