"""Distillation losses: Hinton's and others that followed it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from ._inputs import (
    as_distribution,
    check_same_shape,
    check_scalars,
    check_temperature,
    promote,
)


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
      student_logits: The logits `[..., C]` of the network being trained.
      teacher_logits: The teacher's logits, `[..., C]`. No gradient flows into them.
      temperature: The temperature `T`, a scalar above 0.

    Returns:
      `[...]`, float32 (float64 if an input is), never below 0 except by rounding.

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_temperature(temperature)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student_logits, teacher_logits = promote(student_logits, teacher_logits)
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
      student_logits: The logits `[..., C]` of the network being trained.
      teacher_logits: The teacher's logits, `[..., C]`. No gradient flows into them.
      labels: Integers `[...]`, or floating distributions `[..., C]`, whose likeliest
        category is the target. An integer outside `[0, C)` gives NaN.
      temperature: The temperature `T`, a scalar above 0.
      target_weight: The weight `alpha` of the split between the target and the rest.
      non_target_weight: The weight `beta` of the distribution over the rest.

    Returns:
      `[...]`, float32 (float64 if an input is).

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_temperature(temperature)
    check_scalars(target_weight=target_weight, non_target_weight=non_target_weight)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student, teacher = promote(student_logits, teacher_logits)
    targets = as_distribution(labels, student)
    likeliest = jnp.argmax(targets, axis=-1)
    is_target = jax.nn.one_hot(likeliest, student.shape[-1], dtype=bool)
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
      student_logits: The logits `[..., C]` of the network being trained.
      teacher_logits: The teacher's logits, `[..., C]`. No gradient flows into them.
      temperature: The base temperature, a scalar above 0.

    Returns:
      `[...]`, float32 (float64 if an input is), never below 0 except by rounding.

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student, teacher = map(_standardise, promote(student_logits, teacher_logits))
    return distillation_loss(student, teacher, temperature=temperature)


def correlation_distillation_loss(
    student_logits: Float[Array, "*batch classes"],
    teacher_logits: Float[Array, "*batch classes"],
    *,
    temperature: float = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> Float[Array, "*batch"]:
    """DIST: `T^2 (beta (1 - corr over classes) + gamma (1 - corr over examples))`.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (arXiv
    2205.10536), equations 7 and 9, as the authors' code computes them: Pearson's
    correlation of both networks' probabilities, within each example and, for each
    class, over the examples. The cross-entropy beside it is left to the caller.

    Args:
      student_logits: The logits `[..., C]` of the network being trained. All examples
        of the leading dimensions are one batch.
      teacher_logits: The teacher's logits, `[..., C]`. No gradient flows into them.
      temperature: The temperature `T`, a scalar above 0.
      inter_weight: The weight `beta` of the correlation within each example.
      intra_weight: The weight `gamma` of the correlation over the examples, which is
        the mean over classes.

    Returns:
      `[...]`, float32 (float64 if an input is). The second term is one number for the
      whole batch, which every example carries, so that the mean is the paper's loss.

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_temperature(temperature)
    check_scalars(inter_weight=inter_weight, intra_weight=intra_weight)
    check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits)
    student, teacher = promote(student_logits, teacher_logits)
    p = jax.nn.softmax(student / temperature)
    q = jax.nn.softmax(jax.lax.stop_gradient(teacher) / temperature)
    inter = 1 - _correlation(p, q)
    flat = (x.reshape(-1, x.shape[-1]).T for x in (p, q))
    intra = jnp.mean(1 - _correlation(*flat))
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def virtual_teacher_loss(
    logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 20.0,
    correct_probability: float = 0.99,
) -> Float[Array, "..."]:
    """Tf-KD: `KL(softmax(u / T) || softmax(logits))`, with `u` a teacher made up.

    Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization",
    CVPR 2020 (arXiv 1909.11723), section 4.2, as the authors' code computes it: `u`
    gives the label `correct_probability` and all other categories the same share of
    the rest, and is itself softened as if it were logits. The cross-entropy that it is
    mixed with is left to the caller.

    Args:
      logits: The logits `[..., C]` of the network being trained, of 2 classes or more.
      labels: Integers `[...]`, or floating distributions `[..., C]`, over which `u` is
        averaged. An integer outside `[0, C)` gives NaN.
      temperature: The temperature `T`, a scalar above 0.
      correct_probability: The probability that the teacher gives the label, a scalar.

    Returns:
      `[...]`, float32 (float64 if an input is).

    Raises:
      TypeError: Logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_temperature(temperature)
    check_scalars(correct_probability=correct_probability)
    (logits,) = promote(logits)
    targets = as_distribution(labels, logits)
    rest = (1 - correct_probability) / (logits.shape[-1] - 1)
    made_up = rest + (correct_probability - rest) * targets
    teacher = jax.nn.log_softmax(made_up / temperature)
    student = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def _correlation(
    x: Float[Array, "... n"], y: Float[Array, "... n"]
) -> Float[Array, "..."]:
    """Pearson's correlation of rows; 0, without gradient, where one is constant."""
    x, y = (a - jnp.mean(a, axis=-1, keepdims=True) for a in (x, y))
    squares = [jnp.sum(jnp.square(a), axis=-1) for a in (x, y)]
    # A square root has no gradient at 0.
    norms = [jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1.0)), 0.0) for s in squares]
    return jnp.sum(x * y, axis=-1) / (norms[0] * norms[1] + 1e-8)


def _decouple(
    logits: Float[Array, "... classes"], is_target: Bool[Array, "... classes"]
) -> tuple[Float[Array, "... 2"], Float[Array, "... classes"]]:
    """Computes log-probabilities: target against rest, and within the rest."""
    rest = jax.nn.logsumexp(logits, axis=-1, where=~is_target)
    target = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    split = jax.nn.log_softmax(jnp.stack([target, rest], axis=-1))
    # The target does not belong to the rest. Its place holds 0, which cannot overflow.
    return split, jnp.where(is_target, 0.0, logits - rest[..., None])


def _standardise(logits: Float[Array, "... classes"]) -> Float[Array, "... classes"]:
    centred = logits - jnp.mean(logits, axis=-1, keepdims=True)
    variance = jnp.var(logits, axis=-1, keepdims=True, ddof=1)
    # A square root has no gradient at 0. Equal logits are given a gradient of 0.
    deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    return centred / (deviation + 1e-7)
