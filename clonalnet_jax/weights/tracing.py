"""What a network does, seen by watching a dry run: no table says it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clonalnet_jax.models.layers import BatchNorm

Path = tuple[str, ...]


def norms_after_convolutions(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[Path, tuple[Path, float]]:
    """Each batch norm whose input is the very array that a convolution returned.

    Args:
      model: a network of `clonalnet_jax.models`.
      image_shape: `(height, width, channels)`.

    Returns:
      The path of each such batch norm, to the convolution's and to its epsilon.
    """
    # The arrays are kept, so that their ids are not given to others.
    outputs: dict[int, tuple[Path, Any]] = {}
    pairs: dict[Path, tuple[Path, float]] = {}

    def watch(module: nn.Module, x: Any, result: Any) -> None:
        if isinstance(module, BatchNorm) and id(x) in outputs:
            pairs[module.path] = (outputs[id(x)][0], module.epsilon)
        if isinstance(module, nn.Conv):
            outputs[id(result)] = (module.path, result)

    _dry_run(model, image_shape, watch)
    return pairs


def head_path(model: nn.Module, image_shape: tuple[int, int, int]) -> Path:
    """The classifier: the last dense layer that runs.

    Args:
      model: a network of `clonalnet_jax.models`.
      image_shape: `(height, width, channels)`.

    Returns:
      Its path, such as `("fc",)`.
    """
    paths: list[Path] = []

    def watch(module: nn.Module, x: Any, result: Any) -> None:
        if isinstance(module, nn.Dense):
            paths.append(module.path)

    _dry_run(model, image_shape, watch)
    return paths[-1]


def _dry_run(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    watch: Callable[[nn.Module, Any, Any], None],
) -> None:
    """Traces the network in eval mode, showing each module's input and result."""

    def interceptor(
        call: Callable[..., Any], args: Any, kwargs: Any, context: Any
    ) -> Any:
        result = call(*args, **kwargs)
        watch(context.module, args[0] if args else None, result)
        return result

    def run(images: jax.Array) -> Any:
        with nn.intercept_methods(interceptor):
            return model.init(jax.random.key(0), images, train=False)

    jax.eval_shape(run, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
