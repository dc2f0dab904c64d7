"""Checks and conversions of what the losses are given."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, Shaped

from . import _classes


def promote(*logits: Float[Array, "... classes"]) -> list[Float[Array, "... classes"]]:
    """Brings logits to one dtype: float32, or float64 if one of them is.

    Args:
      *logits: Logits `[..., C]` of any floating dtypes.

    Returns:
      The logits as arrays of that dtype.

    Raises:
      TypeError: An array is not floating point.
      ValueError: An array is a scalar.
    """
    arrays = [jnp.asarray(x) for x in logits]
    for array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"logits have dtype {array.dtype}; expected floating point."
            )
        if array.ndim == 0:
            raise ValueError("logits are a scalar; expected shape [..., classes].")
    double = any(x.dtype == jnp.float64 for x in arrays)
    return [x.astype(jnp.float64 if double else jnp.float32) for x in arrays]


def as_distribution(
    labels: Num[Array, "..."],
    logits: Float[Array, "... classes"],
    class_axis: str | None = None,
) -> Float[Array, "... classes"]:
    """Makes integer labels one-hot and leaves distributions as they are.

    Args:
      labels: Integers `[...]`, or floating distributions `[..., C]`.
      logits: The logits `[..., C]`, whose shape and dtype the result has.
      class_axis: The mesh axis that the classes are split over, if any.

    Returns:
      Distributions `[..., C]`; NaN where an integer label is outside `[0, C)`.

    Raises:
      TypeError: The labels are neither integers nor floating point.
      ValueError: The shapes do not match.
    """
    labels = jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels of dtype {labels.dtype} have shape {labels.shape}, logits "
                f"{logits.shape}; distributions need the logits' shape (cast class "
                "indices to an integer dtype)."
            )
        return labels.astype(logits.dtype)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels have dtype {labels.dtype}; expected integer class indices or "
            "floating distributions."
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"integer labels have shape {labels.shape}, logits {logits.shape}; "
            f"expected labels of shape {logits.shape[:-1]} (cast one-hot labels to a "
            "floating dtype)."
        )
    local = labels - _classes.first(logits, class_axis)
    one_hot = jax.nn.one_hot(local, logits.shape[-1], dtype=logits.dtype)
    # NaN makes an impossible label visible. A row of zeros would train on silently.
    valid = (labels >= 0) & (labels < _classes.count(logits, class_axis))
    return jnp.where(valid[..., None], one_hot, jnp.nan)


def check_same_shape(
    name: str, x: Shaped[Array, "..."], other_name: str, y: Shaped[Array, "..."]
) -> None:
    """Raises ValueError unless two arrays have one shape `[..., C]`."""
    shape, other = jnp.shape(x), jnp.shape(y)
    if shape == other and shape:
        return
    hint = ""
    if shape[:-1] == other[:-1] and shape and other:
        hint = f": the networks have {shape[-1]} and {other[-1]} classes"
    raise ValueError(
        f"{name} have shape {shape}, {other_name} {other}; expected both "
        f"[..., classes]{hint}."
    )


def check_scalars(**hyperparameters: Any) -> None:
    """Raises ValueError unless each is a number or an array without dimensions.

    An array of `B` values would be applied by row or by class, depending on which of
    the two has the size `B`.
    """
    for name, value in hyperparameters.items():
        if isinstance(value, numbers.Real):
            continue
        shape = getattr(value, "shape", None)
        if shape != ():
            got = f"is {value!r}" if shape is None else f"has shape {shape}"
            raise ValueError(f"{name} {got}; expected a scalar.")


def check_temperature(temperature: Any) -> None:
    """Raises ValueError unless the temperature is a scalar above 0."""
    check_scalars(temperature=temperature)
    # A float, since under `jax.jit` a comparison of even a known array is traced.
    if is_known(temperature) and not float(temperature) > 0:
        raise ValueError(f"temperature is {temperature}; expected above 0.")


def check_smoothing(label_smoothing: Any) -> None:
    """Raises ValueError unless the smoothing is a scalar from 0 to 1."""
    check_scalars(label_smoothing=label_smoothing)
    if is_known(label_smoothing) and not 0 <= float(label_smoothing) <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 to 1.")


def is_known(value: Any) -> bool:
    """Whether a value can be checked now. Under `jax.jit` it is traced and has none."""
    return not isinstance(value, jax.core.Tracer)
