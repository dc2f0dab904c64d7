"""The greatest logit of a row and the sums of its exponentials, in one pass over it.

The sums need the maximum, which is a pass of its own. Running maxima and sums, of which
any two can be joined, need one. By the cycles of its compiler, a TPU then takes three
fifths of the time for loss and gradient (docs/compiled.md). Others keep two passes: a
CPU has its rows in the cache, where XLA does not vectorise such a reduction, and for
GPUs XLA has kernels of its own for a maximum and a sum.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import _classes


class Peaks(NamedTuple):
    """What turns logits into probabilities; each is `[..., 1]`."""

    peak: Array
    """The greatest logit, without a gradient."""
    total: Array
    """The sum of `exp(logits - peak)`."""
    softened_total: Array | None = None
    """The sum of `exp((logits - peak) / temperature)`, if there is a temperature."""


def peaks(
    logits: Float[Array, "... classes"],
    class_axis: str | None,
    temperature: Float[Array, ""] | float | None = None,
) -> Peaks:
    """Computes the maximum and the sums of each row.

    Args:
      logits: The logits.
      class_axis: The mesh axis that the classes are split over, or None.
      temperature: The temperature that softens them, a scalar, or None.

    Returns:
      The maximum and the sums, over all devices.
    """
    if temperature is not None:
        temperature = jnp.asarray(temperature, logits.dtype)
    if class_axis is not None:
        return _in_two_passes(logits, temperature, class_axis)
    found: Peaks = jax.lax.platform_dependent(
        logits, temperature, tpu=_in_one_pass, default=_in_two_passes
    )
    return found


def _in_two_passes(
    logits: Array, temperature: Array | None, class_axis: str | None = None
) -> Peaks:
    peak = _classes.peak(logits, class_axis)
    above = logits - peak
    total = _classes.total(jnp.exp(above), class_axis)
    if temperature is None:
        return Peaks(peak, total)
    softened = jnp.exp(above / temperature)
    return Peaks(peak, total, _classes.total(softened, class_axis))


@jax.custom_jvp
def _in_one_pass(logits: Array, temperature: Array | None) -> Peaks:
    # The maximum, the temperature and the sums of every logit alone. A reduction knows
    # nothing but its operands, so the temperature is one.
    ones = jnp.ones_like(logits)
    low, zero = jnp.full((), -jnp.inf, logits.dtype), jnp.zeros((), logits.dtype)
    operands, start = [logits, ones], [low, zero]
    if temperature is not None:
        operands += [ones, jnp.broadcast_to(temperature, logits.shape)]
        start += [zero, low]
    found = jax.lax.reduce(operands, start, _join, (logits.ndim - 1,))
    return Peaks(*(value[..., None] for value in found[:3]))


def _join(one: Sequence[Array], other: Sequence[Array]) -> list[Array]:
    """Joins two parts of a row: the sums of the lower one count from the higher."""
    higher = one[0] >= other[0]
    # Of two infinite maxima the difference would be NaN.
    apart = jnp.where(one[0] == other[0], 0.0, jnp.abs(one[0] - other[0]))

    def added(here: Array, there: Array, apart: Array) -> Array:
        factor = jnp.exp(-apart)
        return jnp.where(higher, here + there * factor, here * factor + there)

    joined = [jnp.maximum(one[0], other[0]), added(one[1], other[1], apart)]
    if len(one) > 2:
        temperature = jnp.maximum(one[3], other[3])
        joined += [added(one[2], other[2], apart / temperature), temperature]
    return joined


@_in_one_pass.defjvp
def _in_one_pass_jvp(
    primals: tuple[Array, Array | None], tangents: tuple[Array, Any]
) -> tuple[Peaks, Peaks]:
    logits, temperature = primals
    found, change = _in_one_pass(logits, temperature), tangents[0]
    above = logits - found.peak
    still = jnp.zeros_like(found.peak)
    of_total = _classes.total(jnp.exp(above) * change, None)
    if temperature is None:
        return found, Peaks(still, of_total)
    softened = jnp.exp(above / temperature) * change / temperature
    return found, Peaks(still, of_total, _classes.total(softened, None))
