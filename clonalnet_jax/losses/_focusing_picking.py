"""The focusing-picking loss: its definition, and the faster form for training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from . import _classes
from ._closed_form import row_sums
from ._confusing import multi_warm_labels
from ._inputs import (
    as_distribution,
    check_same_shape,
    check_scalars,
    check_smoothing,
    check_temperature,
    promote,
)


def focusing_picking_definition(
    clone_logits: Float[Array, "... classes"],
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
    label_smoothing: float = 0.1,
    attention_weight: float = 1.0,
    negentropy_weight: float = 1.0,
) -> Float[Array, "..."]:
    """The focusing-picking loss as it is defined, to read and to compare with.

    `focusing_picking_loss` is the same function and the one to train with; it describes
    the arguments. JAX differentiates this one by itself, also in forward mode.
    """
    z, b = promote(clone_logits, jax.lax.stop_gradient(baseline_logits))
    y = as_distribution(labels, z)
    log_p = jax.nn.log_softmax(z)
    p, p_b = jnp.exp(log_p), jax.nn.softmax(b)
    # Be more confident than the baseline: the logits are shifted by the clone's lead.
    log_shifted = jax.nn.log_softmax(z + (p - p_b))
    smoothed = (1 - label_smoothing) * y + label_smoothing / z.shape[-1]
    classification = -jnp.sum(smoothed * log_shifted, axis=-1)
    # Focus: pay attention to the categories that confuse the baseline.
    warm = multi_warm_labels(b, labels, temperature=temperature)
    attention = -jnp.sum(warm * log_p, axis=-1)
    # The paper's "pick". Added, as in the authors' code, it keeps the entropy up.
    negentropy = jnp.sum(p * log_p, axis=-1)
    return (
        classification + attention_weight * attention + negentropy_weight * negentropy
    )


class FocusingPickingTerms(NamedTuple):
    """The unweighted terms of the focusing-picking loss, one value per example."""

    classification: Float[Array, "..."]
    """Cross-entropy of the clone's logits shifted by its lead over the baseline."""
    attention: Float[Array, "..."]
    """Cross-entropy against the multi-warm label, to focus on confusing categories."""
    negentropy: Float[Array, "..."]
    """Negative entropy of the clone's prediction, which the loss *adds*."""


def focusing_picking_loss(
    clone_logits: Float[Array, "... classes"],
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
    label_smoothing: float = 0.1,
    attention_weight: float = 1.0,
    negentropy_weight: float = 1.0,
    confusing: Bool[Array, "... classes"] | None = None,
    class_axis: str | None = None,
) -> Float[Array, "..."]:
    """Focusing-picking loss: `classification + alpha attention + beta negentropy`.

    It computes `focusing_picking_definition`, but has its gradient in closed form. The
    gradient needs only the logits and sums over their rows, so that nothing else of
    size `[..., C]` is kept for the backward pass. Reverse mode comes first (`jax.grad`,
    `jax.vjp`); its result can be differentiated in either (`jax.hessian`). Forward mode
    alone (`jax.jvp`) is for the definition.

    The paper has integer labels. If labels are distributions, the target of the
    attention term is its expectation over the label, which is our own extension; see
    `multi_warm_labels`.

    Args:
      clone_logits: The logits `[..., C]` of the network being trained.
      baseline_logits: The logits `[..., C]` of the frozen baseline on the same images.
        No gradient flows into them, in any order.
      labels: Integers `[...]`, or floating distributions `[..., C]` (mixup, soft
        labels). An integer outside `[0, C)` gives NaN.
      temperature: The temperature that softens the baseline before confusing categories
        are picked, a scalar above 0. For one per example use `jax.vmap`.
      label_smoothing: The smoothing `eps` of the classification term's target, a scalar
        from 0 to 1.
      attention_weight: The weight `alpha`, a scalar. To weigh examples differently, add
        up `focusing_picking_terms`.
      negentropy_weight: The weight `beta`, a scalar.
      confusing: The baseline's own confusing categories `[..., C]` where they are known
        already, as `confusing_categories` gives them without labels. The labels join
        them in any case; integer labels may be among them.
      class_axis: The mesh axis that the classes are split over, for use under
        `jax.shard_map` (with its `check_vma`): the logits, and labels that are
        distributions, are one device's `[..., C / n]`; integer labels count over all
        `C`.

    Returns:
      `[...]`, float32 (float64 if an input is); the same on all of `class_axis`.

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or a hyper-parameter is not a scalar or is out of
        range.
    """
    check_scalars(
        attention_weight=attention_weight, negentropy_weight=negentropy_weight
    )
    terms = focusing_picking_terms(
        clone_logits,
        baseline_logits,
        labels,
        temperature=temperature,
        label_smoothing=label_smoothing,
        confusing=confusing,
        class_axis=class_axis,
    )
    return (
        terms.classification
        + attention_weight * terms.attention
        + negentropy_weight * terms.negentropy
    )


def focusing_picking_terms(
    clone_logits: Float[Array, "... classes"],
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
    label_smoothing: float = 0.1,
    confusing: Bool[Array, "... classes"] | None = None,
    class_axis: str | None = None,
) -> FocusingPickingTerms:
    """Computes the three terms of `focusing_picking_loss`, without their weights.

    Args:
      clone_logits: The network's logits, `[..., C]`.
      baseline_logits: The baseline's logits, `[..., C]`. No gradient flows into them.
      labels: Integers `[...]` or floating distributions `[..., C]`.
      temperature: The temperature that softens the baseline, a scalar above 0.
      label_smoothing: The smoothing `eps` of the classification term's target, a scalar
        from 0 to 1.
      confusing: The baseline's own confusing categories `[..., C]`, if they are known
        already.
      class_axis: The mesh axis that the classes are split over, if any.

    Returns:
      `FocusingPickingTerms`, each field `[...]`.

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or a hyper-parameter is not a scalar or is out of
        range.
    """
    check_same_shape("clone_logits", clone_logits, "baseline_logits", baseline_logits)
    _classes.check_axis(class_axis, clone_logits)
    if confusing is not None:
        check_same_shape("confusing", confusing, "baseline_logits", baseline_logits)
    check_temperature(temperature)
    check_smoothing(label_smoothing)
    hard, uniform, attention, negentropy = row_sums(
        jnp.asarray(clone_logits),
        # Stopped here and not in the closed form, so that second derivatives stop, too.
        jax.lax.stop_gradient(jnp.asarray(baseline_logits)),
        jnp.asarray(labels),
        None if confusing is None else jnp.asarray(confusing, bool),
        temperature,
        class_axis,
    )
    return FocusingPickingTerms(
        classification=(1.0 - label_smoothing) * hard + label_smoothing * uniform,
        attention=attention,
        negentropy=negentropy,
    )
