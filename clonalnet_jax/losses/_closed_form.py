"""The sums that make up the focusing-picking loss, with their gradient.

With `z` the clone's logits, `p = softmax(z)`, `p_b` the baseline's probabilities, `y`
the label's distribution, `v = z + p - p_b` the shifted logits, `q = softmax(v)` and `m`
the multi-warm label, the four sums of a row and their gradients are

    hard        -sum(y log q)      d(sum(y) q - y)
    uniform     -mean(log q)       d(q - 1/C)
    attention   -sum(m log p)      sum(m) p - m
    negentropy   sum(p log p)      p (log p - sum(p log p))

where `d(g) = g + p (g - sum(p g))`, since the shift depends on `z` through `p`, too.

Arrays as large as the logits (p, q, m) are computed again in the backward pass, which
costs less than keeping them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import _classes
from ._attention import (
    AttentionSums,
    attention_of_labels,
    attention_sums,
    attention_target,
)
from ._blocks import in_blocks
from ._confusing import above_average
from ._inputs import as_distribution, promote
from ._peaks import Peaks, peaks


class _Scales(NamedTuple):
    """The values that turn logits into probabilities."""

    clone: Peaks
    """Those of the clone's logits."""
    baseline: Peaks
    """Those of the baseline's, softened unless its confusing categories are known."""


class _Elements(NamedTuple):
    """The arrays that are as large as the logits; each is `[..., C]`."""

    probs: Array
    """The clone's probabilities."""
    log_probs: Array
    """Their logarithms."""
    shifted: Array
    """The clone's logits, shifted by its lead over the baseline, less their peak."""
    in_set: Array
    """The confusing categories; the label is among them if it is an integer."""
    targets: Array
    """The label's distribution."""


class _Sums(NamedTuple):
    """The sums over whole rows that the gradient needs again; each is `[..., 1]`."""

    shifted_total: Array
    """The sum of `exp(shifted)`."""
    target_sum: Array
    """The sum of the targets."""
    probs_shifted: Array
    """The sum of the clone's probabilities times those of its shifted logits."""
    probs_targets: Array
    """The sum of the clone's probabilities times the targets."""
    negentropy: Array
    """The sum of the clone's probabilities times their logarithms."""
    attention: AttentionSums
    """The sums that only the attention term needs."""


RowSums = tuple[Array, Array, Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def row_sums(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    temperature: Any,
    class_axis: str | None,
) -> RowSums:
    """Computes the four sums of each row: hard, uniform, attention, negentropy.

    The label smoothing mixes the first two. That is left to the caller, so that a
    gradient can flow into the smoothing, too.

    Args:
      clone_logits: The network's logits, `[..., C]` of any floating dtype.
      baseline_logits: The baseline's logits, `[..., C]`. They must have no gradient:
        the gradient of the clone's logits can be differentiated again.
      labels: Integers `[...]` or floating distributions `[..., C]`.
      confusing: The baseline's own confusing categories `[..., C]`, or None.
      temperature: The temperature that softens the baseline, a scalar.
      class_axis: The mesh axis that the classes are split over, or None.

    Returns:
      The four sums, `[...]` each.
    """
    sums, _ = _forward(
        clone_logits, baseline_logits, labels, confusing, temperature, class_axis
    )
    return sums


def _forward(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    temperature: Any,
    class_axis: str | None,
) -> tuple[RowSums, Any]:
    inputs = (clone_logits, baseline_logits, labels, confusing)
    forward = functools.partial(
        _forward_rows, temperature=temperature, class_axis=class_axis
    )
    sums, rows = in_blocks(forward, class_axis, *inputs)
    return sums, (inputs, temperature, rows)


def _backward(
    class_axis: str | None, kept: Any, cotangents: RowSums
) -> tuple[Array, None, Array | None, None, None]:
    inputs, temperature, rows = kept
    backward = functools.partial(
        _backward_rows, temperature=temperature, class_axis=class_axis
    )
    of_clone, of_labels = in_blocks(backward, class_axis, *inputs, rows, cotangents)
    return of_clone, None, of_labels, None, None


row_sums.defvjp(_forward, _backward)


def _forward_rows(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    *,
    temperature: Any,
    class_axis: str | None,
) -> tuple[RowSums, tuple[_Scales, _Sums]]:
    """Computes the sums of some rows, and the values that the gradient needs again."""
    total = functools.partial(_classes.total, class_axis=class_axis)
    clone, baseline = promote(clone_logits, baseline_logits)
    scales = _Scales(
        peaks(clone, class_axis),
        peaks(baseline, class_axis, temperature if confusing is None else None),
    )
    elements = _elements(
        clone, baseline, labels, confusing, scales, temperature, class_axis
    )
    probs, log_probs, shifted, in_set, targets = elements
    odds = jnp.exp(shifted)
    shifted_total = total(odds)
    attention, of_attention = attention_sums(
        log_probs, in_set, targets if _are_soft(labels) else None, total
    )
    sums = _Sums(
        shifted_total=shifted_total,
        target_sum=total(targets),
        probs_shifted=total(probs * odds) / shifted_total,
        probs_targets=total(probs * targets),
        negentropy=total(probs * log_probs),
        attention=of_attention,
    )
    log_total = jnp.log(shifted_total)
    hard = log_total * sums.target_sum - total(targets * shifted)
    uniform = log_total - total(shifted) / _classes.count(clone, class_axis)
    results = (hard, uniform, attention, sums.negentropy)
    hard, uniform, attention, negentropy = (x[..., 0] for x in results)
    return (hard, uniform, attention, negentropy), (scales, sums)


def _backward_rows(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    rows: tuple[_Scales, _Sums],
    cotangents: RowSums,
    *,
    temperature: Any,
    class_axis: str | None,
) -> tuple[Array, Array | None]:
    """Computes the gradients of the clone's logits and of floating labels."""
    scales, sums = rows
    clone, baseline = promote(clone_logits, baseline_logits)
    hard, uniform, attention, negentropy = (x[..., None] for x in cotangents)
    elements = _elements(
        clone, baseline, labels, confusing, scales, temperature, class_axis
    )
    probs, log_probs, shifted, in_set, targets = elements
    warm = attention_target(in_set, targets, sums.attention)
    warm_sum = sums.target_sum if _are_soft(labels) else 1.0
    shifted_probs = jnp.exp(shifted) / sums.shifted_total
    scale = hard * sums.target_sum + uniform
    uniform = uniform / _classes.count(clone, class_axis)
    of_shifted = scale * shifted_probs - hard * targets - uniform
    along_probs = scale * sums.probs_shifted - hard * sums.probs_targets - uniform
    of_clone = (
        of_shifted
        + probs * (of_shifted - along_probs)
        + attention * (warm_sum * probs - warm)
        + negentropy * probs * (log_probs - sums.negentropy)
    )
    of_labels = None
    if _are_soft(labels):
        cross_entropy = jnp.log(sums.shifted_total) - shifted
        focus = attention_of_labels(log_probs, in_set, sums.attention)
        of_labels = hard * cross_entropy + attention * focus
        of_labels = of_labels.astype(labels.dtype)
    return of_clone.astype(clone_logits.dtype), of_labels


def _elements(
    clone: Array,
    baseline: Array,
    labels: Array,
    confusing: Array | None,
    scales: _Scales,
    temperature: Any,
    class_axis: str | None,
) -> _Elements:
    centred, above = clone - scales.clone.peak, baseline - scales.baseline.peak
    probs = jnp.exp(centred) / scales.clone.total
    lead = probs - jnp.exp(above) / scales.baseline.total
    if confusing is None:
        assert scales.baseline.softened_total is not None
        odds = jnp.exp(above / temperature)
        num_classes = _classes.count(clone, class_axis)
        confusing = above_average(odds, scales.baseline.softened_total, num_classes)
    targets = as_distribution(labels, clone, class_axis)
    return _Elements(
        probs=probs,
        log_probs=centred - jnp.log(scales.clone.total),
        shifted=centred + lead,
        in_set=confusing if _are_soft(labels) else confusing | (targets > 0),
        targets=targets,
    )


def _are_soft(labels: Array) -> bool:
    """Whether labels are distributions, and not integers."""
    return jnp.issubdtype(labels.dtype, jnp.floating)
