"""Sums over the classes, which one device has all of or a mesh axis splits.

Each function takes one device's part `[..., C / n]` and `class_axis`, the name of the
mesh axis that the parts lie on, or None where a device has all classes. With a name
they work inside `jax.shard_map`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def peak(
    logits: Float[Array, "... classes"], class_axis: str | None
) -> Float[Array, "... 1"]:
    """Returns the greatest logit of each row, without a gradient.

    The losses subtract it and add it again, so it contributes nothing to a gradient.
    """
    highest = jnp.max(jax.lax.stop_gradient(logits), axis=-1, keepdims=True)
    return highest if class_axis is None else jax.lax.pmax(highest, class_axis)


def total(
    values: Float[Array, "... classes"], class_axis: str | None
) -> Float[Array, "... 1"]:
    """Returns the sum of each row."""
    partial = jnp.sum(values, axis=-1, keepdims=True)
    return partial if class_axis is None else jax.lax.psum(partial, class_axis)


def count(logits: Float[Array, "... classes"], class_axis: str | None) -> int:
    """Returns the number of all classes, `C`."""
    parts = 1 if class_axis is None else jax.lax.axis_size(class_axis)
    return parts * logits.shape[-1]


def first(logits: Float[Array, "... classes"], class_axis: str | None) -> int | Array:
    """Returns the index, among all classes, of the first one on this device."""
    if class_axis is None:
        return 0
    return jax.lax.axis_index(class_axis) * logits.shape[-1]


def check_axis(class_axis: str | None, logits: Array) -> None:
    """Raises ValueError unless JAX knows that logits differ along the axis.

    With `check_vma=False` JAX does not know this, and the gradient of a sum over
    devices would be wrong.
    """
    aval = jax.typeof(logits)
    # JAX 0.10.2 has renamed this attribute.
    varying = aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying
    if class_axis is not None and class_axis not in varying:
        raise ValueError(
            f"clone_logits are not known to differ along class_axis {class_axis!r}; "
            "expected classes that are split over it under jax.shard_map with "
            "check_vma=True, its default: without, the gradient would be wrong."
        )
