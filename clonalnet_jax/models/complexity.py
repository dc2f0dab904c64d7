"""Counts the work of a forward pass from its trace, without running or compiling."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from clonalnet_jax.models.protocol import Model


def count_multiply_adds(model: Model, image_shape: tuple[int, int, int]) -> int:
    """Counts the multiply-adds of convolutions and matrix products for one image.

    Papers and torchvision call this number FLOPs, although each multiply-add is two
    operations.

    Args:
      model: The network.
      image_shape: Shape of one image, `(height, width, channels)`.

    Returns:
      The count. Element-wise work is left out.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    trace = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))
    return _count(trace(variables, images).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        operands = [variable.aval.shape for variable in equation.invars]
        if equation.primitive.name == "conv_general_dilated":
            spec = equation.params["dimension_numbers"].rhs_spec
            inputs_each = math.prod(operands[1]) // operands[1][spec[0]]
            total += math.prod(equation.outvars[0].aval.shape) * inputs_each
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            summed = math.prod(operands[0][axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * summed
        inner = jax.tree.leaves(equation.params)
        total += sum(_count(leaf) for leaf in inner if hasattr(leaf, "eqns"))
    return total
