"""The focusing-picking loss and its rivals, as pure functions of logits.

Nothing here knows about models, data or devices, so this file can be used alone:

    from clonalnet_jax.losses import focusing_picking_loss

Every loss takes logits first, returns one value per example (reduce it as you
like), accepts any leading batch dimensions, and is computed in float32 or wider
whatever comes in. Source: "Classifying Better by Focusing on Confusing Categories"
(arXiv 2110.07307) and the authors' released implementation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, Shaped


class FocusingPickingTerms(NamedTuple):
    """The unweighted terms of the focusing-picking loss, one value per example."""

    classification: Float[Array, "..."]
    """Cross-entropy of the clone's logits shifted by its lead over the baseline."""
    attention: Float[Array, "..."]
    """Cross-entropy against the multi-warm label: focus on what confuses."""
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
) -> Float[Array, "..."]:
    """Focusing-picking loss: `classification + alpha attention + beta negentropy`.

    Args:
      clone_logits: `[..., C]`, of the network being trained.
      baseline_logits: `[..., C]`, of the frozen baseline on the same images. No
        gradient flows into them.
      labels: integers `[...]`, or floating distributions `[..., C]` (mixup, soft
        labels). An integer outside `[0, C)` gives NaN.
      temperature: softens the baseline before confusing categories are picked.
      label_smoothing: `eps` of the classification term's target.
      attention_weight: `alpha`.
      negentropy_weight: `beta`.

    Returns:
      `[...]`, float32 (float64 if an input is).

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or a hyper-parameter is out of range.
    """
    terms = focusing_picking_terms(
        clone_logits,
        baseline_logits,
        labels,
        temperature=temperature,
        label_smoothing=label_smoothing,
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
) -> FocusingPickingTerms:
    """The three terms of `focusing_picking_loss`, unweighted; same arguments.

    Args:
      clone_logits: `[..., C]`.
      baseline_logits: `[..., C]`; no gradient flows into them.
      labels: integers `[...]` or floating distributions `[..., C]`.
      temperature: softens the baseline before confusing categories are picked.
      label_smoothing: `eps` of the classification term's target.

    Returns:
      `FocusingPickingTerms`, each field `[...]`.

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or a hyper-parameter is out of range.
    """
    _check_same_shape("clone_logits", clone_logits, "baseline_logits", baseline_logits)
    if isinstance(label_smoothing, float | int) and not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 to 1.")
    clone_logits, baseline_logits = _promote(clone_logits, baseline_logits)
    baseline_logits = jax.lax.stop_gradient(baseline_logits)
    num_classes = clone_logits.shape[-1]
    targets = _as_distribution(labels, clone_logits)
    warm = multi_warm_labels(baseline_logits, labels, temperature=temperature)

    log_probs = jax.nn.log_softmax(clone_logits)
    probs = jnp.exp(log_probs)
    lead = probs - jax.nn.softmax(baseline_logits)
    smoothed = (1.0 - label_smoothing) * targets + label_smoothing / num_classes
    return FocusingPickingTerms(
        classification=_cross_entropy(clone_logits + lead, smoothed),
        attention=-jnp.sum(warm * log_probs, axis=-1),
        negentropy=jnp.sum(probs * log_probs, axis=-1),
    )


def confusing_categories(
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
) -> Bool[Array, "... classes"]:
    """The categories that confuse the baseline on each image, and the true one.

    `S = {k : softmax(baseline_logits / temperature)_k > 1/C}` plus the label. With
    labels that are distributions, every category of positive weight belongs to `S`.

    Args:
      baseline_logits: `[..., C]`.
      labels: integers `[...]` or floating distributions `[..., C]`.
      temperature: greater is softer; at high temperature only the order of the
        logits around their mean matters.

    Returns:
      Boolean mask `[..., C]`.

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or the temperature is not positive.
    """
    _check_temperature(temperature)
    (baseline_logits,) = _promote(baseline_logits)
    positive = _as_distribution(labels, baseline_logits) > 0
    scaled = baseline_logits / temperature
    odds = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    # softmax > 1/C without the division, so that equal logits are never "above".
    total = jnp.sum(odds, axis=-1, keepdims=True)
    return (odds * baseline_logits.shape[-1] > total) | positive


def multi_warm_labels(
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
) -> Float[Array, "... classes"]:
    """Multi-warm labels: equal weight on every confusing category, `[k in S] / |S|`.

    Args:
      baseline_logits: `[..., C]`; no gradient flows into them.
      labels: integers `[...]` or floating distributions `[..., C]`.
      temperature: see `confusing_categories`.

    Returns:
      `[..., C]`, each row sums to 1; float32 (float64 if the logits are).

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or the temperature is not positive.
    """
    mask = confusing_categories(baseline_logits, labels, temperature=temperature)
    warm = mask.astype(_promote(baseline_logits)[0].dtype)
    return warm / jnp.sum(warm, axis=-1, keepdims=True)


def distillation_loss(
    student_logits: Float[Array, "... classes"],
    teacher_logits: Float[Array, "... classes"],
    *,
    temperature: float,
) -> Float[Array, "..."]:
    """Knowledge distillation: `T^2 KL(softmax(teacher / T) || softmax(student / T))`.

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2. The factor `T^2`
    keeps the gradient's size when the temperature changes; mixing with the
    cross-entropy on the labels is left to the caller.

    Args:
      student_logits: `[..., C]`, of the network being trained.
      teacher_logits: `[..., C]`; no gradient flows into them.
      temperature: `T`, above 0.

    Returns:
      `[...]`, float32 (float64 if an input is), never below 0 but for rounding.

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or the temperature is not positive.
    """
    _check_temperature(temperature)
    _check_same_shape(
        "student_logits", student_logits, "teacher_logits", teacher_logits
    )
    student_logits, teacher_logits = _promote(student_logits, teacher_logits)
    teacher = jax.nn.log_softmax(jax.lax.stop_gradient(teacher_logits) / temperature)
    student = jax.nn.log_softmax(student_logits / temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def decoupled_distillation_loss(
    student_logits: Float[Array, "... classes"],
    teacher_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
) -> Float[Array, "..."]:
    """Decoupled distillation: `T^2 (alpha KL(target or not) + beta KL(among others))`.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022 (arXiv 2203.08679),
    equation 7, with the defaults of the authors' code. `alpha = 1` and
    `beta = 1 - p_target(teacher)` would be `distillation_loss`. The cross-entropy
    that it is added to, and the warm-up of its weight, are left to the caller.

    Args:
      student_logits: `[..., C]`, of the network being trained.
      teacher_logits: `[..., C]`; no gradient flows into them.
      labels: integers `[...]`, or floating distributions `[..., C]`, whose likeliest
        category is the target. An integer outside `[0, C)` gives NaN.
      temperature: `T`, above 0.
      target_weight: `alpha`, of the split between the target and the rest.
      non_target_weight: `beta`, of the distribution over the rest.

    Returns:
      `[...]`, float32 (float64 if an input is).

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or the temperature is not positive.
    """
    _check_temperature(temperature)
    _check_same_shape(
        "student_logits", student_logits, "teacher_logits", teacher_logits
    )
    student, teacher = _promote(student_logits, teacher_logits)
    targets = _as_distribution(labels, student)
    classes = jnp.arange(student.shape[-1])
    is_target = classes == jnp.argmax(targets, axis=-1)[..., None]
    s_split, s_rest = _decouple(student / temperature, is_target)
    t_split, t_rest = _decouple(jax.lax.stop_gradient(teacher) / temperature, is_target)
    target = jnp.sum(jnp.exp(t_split) * (t_split - s_split), axis=-1)
    weight = jnp.where(is_target, 0.0, jnp.exp(jnp.minimum(t_rest, 0.0)))
    rest = jnp.sum(weight * (t_rest - s_rest), axis=-1)
    loss = temperature**2 * (target_weight * target + non_target_weight * rest)
    return jnp.where(jnp.isnan(targets).any(axis=-1), jnp.nan, loss)


def standardised_distillation_loss(
    student_logits: Float[Array, "... classes"],
    teacher_logits: Float[Array, "... classes"],
    *,
    temperature: float = 2.0,
) -> Float[Array, "..."]:
    """Distillation of logits that are standardised first, each row by itself.

    Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024 (arXiv
    2403.01427), algorithm 1: `distillation_loss` of `(x - mean(x)) / (std(x) + 1e-7)`,
    the deviation unbiased as in the authors' code.

    Args:
      student_logits: `[..., C]`, of the network being trained.
      teacher_logits: `[..., C]`; no gradient flows into them.
      temperature: the base temperature, above 0.

    Returns:
      `[...]`, float32 (float64 if an input is), never below 0 but for rounding.

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or the temperature is not positive.
    """
    _check_same_shape(
        "student_logits", student_logits, "teacher_logits", teacher_logits
    )
    student, teacher = map(_standardise, _promote(student_logits, teacher_logits))
    return distillation_loss(student, teacher, temperature=temperature)


def _decouple(
    logits: Float[Array, "... classes"], is_target: Bool[Array, "... classes"]
) -> tuple[Float[Array, "... 2"], Float[Array, "... classes"]]:
    """Log-probabilities of target and rest, and of each category among the rest."""
    rest = jax.nn.logsumexp(logits, axis=-1, where=~is_target)
    target = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    split = jax.nn.log_softmax(jnp.stack([target, rest], axis=-1))
    # The target is none of the rest: 0, so that it neither counts nor overflows.
    return split, jnp.where(is_target, 0.0, logits - rest[..., None])


def _standardise(logits: Float[Array, "... classes"]) -> Float[Array, "... classes"]:
    centred = logits - jnp.mean(logits, axis=-1, keepdims=True)
    variance = jnp.var(logits, axis=-1, keepdims=True, ddof=1)
    # A root has no gradient at 0; equal logits shall have one of 0.
    deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    return centred / (deviation + 1e-7)


def _cross_entropy(
    logits: Float[Array, "... classes"], targets: Float[Array, "... classes"]
) -> Float[Array, "..."]:
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def _promote(*logits: Float[Array, "... classes"]) -> list[Float[Array, "... classes"]]:
    arrays = [jnp.asarray(x) for x in logits]
    for array in arrays:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"logits have dtype {array.dtype}; expected floating point."
            )
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    return [x.astype(dtype) for x in arrays]


def _as_distribution(
    labels: Num[Array, "..."], logits: Float[Array, "... classes"]
) -> Float[Array, "... classes"]:
    """One-hot for integer labels; distributions as they are; checks the shape."""
    labels = jnp.asarray(labels)
    if logits.ndim == 0:
        raise ValueError("logits are a scalar; expected shape [..., classes].")
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
    num_classes = logits.shape[-1]
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    # An impossible label must be seen: a row of zeros would train on silently.
    valid = (labels >= 0) & (labels < num_classes)
    return jnp.where(valid[..., None], one_hot, jnp.nan)


def _check_same_shape(
    name: str, x: Shaped[Array, "..."], other_name: str, y: Shaped[Array, "..."]
) -> None:
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


def _check_temperature(temperature: float) -> None:
    # A traced temperature (a schedule under jit) has no value to look at.
    if isinstance(temperature, float | int) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected above 0.")
