"""What a network does, seen by watching a dry run: no table says it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from clonalnet_jax.errors import UserError
from clonalnet_jax.models.layers import BatchNorm
from clonalnet_jax.models.protocol import Model

Path = tuple[str, ...]


def norms_after_convolutions(
    model: Model, image_shape: tuple[int, int, int]
) -> dict[Path, tuple[Path, float]]:
    """Each batch norm that reads what a convolution wrote, where nothing else does.

    Args:
      model: A network of `clonalnet_jax.models`.
      image_shape: `(height, width, channels)`.

    Returns:
      The path of each such batch norm, to the convolution's and to its epsilon.
    """
    convolutions: dict[str, Path] = {}
    norms: dict[str, BatchNorm] = {}

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm):
            name = f"norm {len(norms)}"
            norms[name] = module
            args = (checkpoint_name(args[0], name), *args[1:])
        result = call(*args, **kwargs)
        if isinstance(module, nn.Conv):
            name = f"convolution {len(convolutions)}"
            convolutions[name] = module.path
            result = checkpoint_name(result, name)
        return result

    # Two marks that meet in the program are one array, and its uses can be counted:
    # a pre-activation block also adds what its batch norm reads.
    jaxpr = jax.make_jaxpr(_dry_run(model, mark))(_images(image_shape)).jaxpr
    read = [v for eqn in jaxpr.eqns for v in eqn.invars] + list(jaxpr.outvars)
    uses = Counter(id(variable) for variable in read)
    marked = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "name"]
    made = {id(eqn.outvars[0]): eqn.params["name"] for eqn in marked}
    pairs = {}
    for eqn in marked:
        name, source = eqn.params["name"], id(eqn.invars[0])
        if name in norms and made.get(source) in convolutions and uses[source] == 1:
            path = convolutions[made[source]]
            pairs[norms[name].path] = (path, norms[name].epsilon)
    return pairs


def head_path(model: Model, image_shape: tuple[int, int, int]) -> Path:
    """The classifier: the last dense layer that runs.

    Args:
      model: A network of `clonalnet_jax.models`.
      image_shape: `(height, width, channels)`.

    Returns:
      Its path, such as `("fc",)`.

    Raises:
      UserError: The network has no dense layer of Flax Linen.
    """
    paths: list[Path] = []

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Dense):
            paths.append(context.module.path)
        return call(*args, **kwargs)

    jax.eval_shape(_dry_run(model, note), _images(image_shape))
    if not paths:
        raise UserError(
            "the network's classifier",
            got="no dense layer of Flax Linen",
            expected="one to split over devices or to replace",
            remedy="set --config.partition.model=1 and leave replace_head out",
        )
    return paths[-1]


def _dry_run(
    model: Model, interceptor: Callable[..., Any]
) -> Callable[[jax.Array], Any]:
    """The network in eval mode with random parameters, each call intercepted."""

    def run(images: jax.Array) -> Any:
        with nn.intercept_methods(interceptor):
            return model.init_with_output(jax.random.key(0), images, train=False)[0]

    return run


def _images(image_shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
