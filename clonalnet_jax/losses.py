"""The focusing-picking loss and its rivals, as pure functions of logits.

Nothing here knows about models, data or devices, so this file can be used alone:

    from clonalnet_jax.losses import focusing_picking_loss

Every loss takes logits first, returns one value per example (reduce it as you
like), accepts any leading batch dimensions, and is computed in float32 or wider
whatever comes in. Source: "Classifying Better by Focusing on Confusing Categories"
(arXiv 2110.07307) and the authors' released implementation.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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
    confusing: Bool[Array, "... classes"] | None = None,
    class_axis: str | None = None,
) -> Float[Array, "..."]:
    """Focusing-picking loss: `classification + alpha attention + beta negentropy`.

    Its gradient is a closed form of the logits and of sums over their rows, so that
    nothing of size `[..., C]` is kept for the backward pass but the logits themselves.
    It is defined for reverse mode (`jax.grad`, `jax.vjp`, any order), not for
    `jax.jvp`.

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
      confusing: the confusing categories `[..., C]` where they are known already, in
        place of `confusing_categories`; the label is one of them in any case.
      class_axis: the mesh axis that the classes are split over, for use under
        `jax.shard_map` (with its `check_vma`): the logits, and labels that are
        distributions, are one device's `[..., C / n]`; integer labels count over all
        `C`.

    Returns:
      `[...]`, float32 (float64 if an input is); the same on all of `class_axis`.

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
    """The three terms of `focusing_picking_loss`, unweighted; same arguments.

    Args:
      clone_logits: `[..., C]`.
      baseline_logits: `[..., C]`; no gradient flows into them.
      labels: integers `[...]` or floating distributions `[..., C]`.
      temperature: softens the baseline before confusing categories are picked.
      label_smoothing: `eps` of the classification term's target.
      confusing: the confusing categories `[..., C]`, if they are known already.
      class_axis: the mesh axis that the classes are split over, if any.

    Returns:
      `FocusingPickingTerms`, each field `[...]`.

    Raises:
      TypeError: logits are not floating point.
      ValueError: shapes do not match, or a hyper-parameter is out of range.
    """
    _check_same_shape("clone_logits", clone_logits, "baseline_logits", baseline_logits)
    _check_class_axis(class_axis, clone_logits)
    if confusing is not None:
        _check_same_shape("confusing", confusing, "baseline_logits", baseline_logits)
    _check_temperature(temperature)
    if isinstance(label_smoothing, float | int) and not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 to 1.")
    hard, uniform, attention, negentropy = _row_sums(
        jnp.asarray(clone_logits),
        jnp.asarray(baseline_logits),
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


class _Rows(NamedTuple):
    """What the loss and its gradient need to know of whole rows, each `[..., 1]`."""

    peak: Array
    """Of the clone's logits."""
    total: Array
    """Of `exp(clone_logits - peak)`."""
    baseline_peak: Array
    baseline_total: Array
    softened_total: Array
    """Of `exp((baseline_logits - baseline_peak) / temperature)`."""
    shifted_total: Array = 0.0  # type: ignore[assignment]
    """Of `exp(shifted)`."""
    set_size: Array = 0.0  # type: ignore[assignment]
    target_sum: Array = 0.0  # type: ignore[assignment]
    probs_shifted: Array = 0.0  # type: ignore[assignment]
    """The clone's probabilities times those of its shifted logits."""
    probs_targets: Array = 0.0  # type: ignore[assignment]
    negentropy: Array = 0.0  # type: ignore[assignment]


# The clone's probabilities p, those of its shifted logits v, targets t and the set are
# cheaper to compute twice than to keep: they are as large as the logits.
@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _row_sums(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    temperature: Any,
    class_axis: str | None,
) -> tuple[Array, Array, Array, Array]:
    """Cross-entropies of the shifted logits with labels and uniform; the other terms.

    The smoothing is left to the caller, so that it can be differentiated, too.
    """
    sums, _ = _row_sums_forward(
        clone_logits, baseline_logits, labels, confusing, temperature, class_axis
    )
    return sums


def _row_sums_forward(
    clone_logits: Array,
    baseline_logits: Array,
    labels: Array,
    confusing: Array | None,
    temperature: Any,
    class_axis: str | None,
) -> tuple[tuple[Array, Array, Array, Array], Any]:
    def forward(
        clone: Array, baseline: Array, labels: Array, confusing: Array | None
    ) -> tuple[tuple[Array, Array, Array, Array], _Rows]:
        total = functools.partial(_total, class_axis=class_axis)
        clone, baseline = _promote(clone, baseline)
        targets = _as_distribution(labels, clone, class_axis)
        peak, baseline_peak = _peak(clone, class_axis), _peak(baseline, class_axis)
        above = baseline - baseline_peak
        rows = _Rows(
            peak=peak,
            total=total(jnp.exp(clone - peak)),
            baseline_peak=baseline_peak,
            baseline_total=total(jnp.exp(above)),
            softened_total=total(jnp.exp(above / temperature)),
        )
        probs, log_probs, shifted, in_set = _elements(
            clone, baseline, targets, confusing, temperature, rows, class_axis
        )
        odds = jnp.exp(shifted)
        shifted_total = total(odds)
        log_total = jnp.log(shifted_total)
        rows = rows._replace(
            shifted_total=shifted_total,
            set_size=total(in_set.astype(clone.dtype)),
            target_sum=total(targets),
            probs_shifted=total(probs * odds) / shifted_total,
            probs_targets=total(probs * targets),
            negentropy=total(probs * log_probs),
        )
        hard, uniform, attention, negentropy = (
            log_total * rows.target_sum - total(targets * shifted),
            log_total - total(shifted) / _num_classes(clone, class_axis),
            -total(jnp.where(in_set, log_probs, 0.0)) / rows.set_size,
            rows.negentropy,
        )
        sums = (hard[..., 0], uniform[..., 0], attention[..., 0], negentropy[..., 0])
        return sums, rows

    inputs = (clone_logits, baseline_logits, labels, confusing)
    sums, rows = _in_blocks(forward, class_axis, *inputs)
    return sums, (*inputs, temperature, rows)


def _row_sums_backward(
    class_axis: str | None, kept: Any, cotangents: tuple[Array, Array, Array, Array]
) -> tuple[Array, None, Array | None, None, None]:
    """With `d` the gradient of the shifted logits, theirs is `d + p (d - <p, d>)`.

    That is what the shift by p adds; the baseline's part of it is a constant.
    """
    *inputs, temperature, rows = kept
    clone_dtype = inputs[0].dtype

    def backward(
        clone: Array,
        baseline: Array,
        labels: Array,
        confusing: Array | None,
        rows: _Rows,
        cotangents: tuple[Array, Array, Array, Array],
    ) -> tuple[Array, Array | None]:
        clone, baseline = _promote(clone, baseline)
        targets = _as_distribution(labels, clone, class_axis)
        hard, uniform, attention, negentropy = (x[..., None] for x in cotangents)
        probs, log_probs, shifted, in_set = _elements(
            clone, baseline, targets, confusing, temperature, rows, class_axis
        )
        shifted_probs = jnp.exp(shifted) / rows.shifted_total
        scale = hard * rows.target_sum + uniform
        uniform = uniform / _num_classes(clone, class_axis)
        of_shifted = scale * shifted_probs - hard * targets - uniform
        along_probs = scale * rows.probs_shifted - hard * rows.probs_targets - uniform
        gradient = (
            of_shifted
            + probs * (of_shifted - along_probs)
            + attention * (probs - jnp.where(in_set, 1.0 / rows.set_size, 0.0))
            + negentropy * probs * (log_probs - rows.negentropy)
        )
        of_labels = None
        if jnp.issubdtype(labels.dtype, jnp.floating):
            of_labels = hard * (jnp.log(rows.shifted_total) - shifted)
            of_labels = of_labels.astype(labels.dtype)
        return gradient.astype(clone_dtype), of_labels

    gradient, of_labels = _in_blocks(backward, class_axis, *inputs, rows, cotangents)
    return gradient, None, of_labels, None, None


_row_sums.defvjp(_row_sums_forward, _row_sums_backward)


# XLA writes every step over the elements out on a CPU. In blocks of so many elements
# these steps stay in the cache, and need next to no memory (benchmarks/loss.py).
_BLOCK = 2**18


def _in_blocks(
    function: Callable[..., Any], class_axis: str | None, logits: Array, *rest: Any
) -> Any:
    """`function(logits, *rest)`; on a CPU some rows at a time, if they are many."""
    size = len(logits) if logits.ndim == 2 and class_axis is None else 1
    least = -(-logits.size // _BLOCK)
    # Blocks of equal size, a row at least.
    parts = next((n for n in range(max(1, least), size) if size % n == 0), size)
    # Few blocks would fit in the cache as they are; tiny ones are not worth the loop.
    if least <= 4 or parts == 1 or parts > 16 * least:
        return function(logits, *rest)

    def looped(*arrays: Any) -> Any:
        # The second axis is looped over: devices that share the batch keep their rows.
        split = jax.tree.map(
            lambda x: _as_bits(x).reshape(-1, parts, *x.shape[1:]), arrays
        )

        def block(part: Any) -> Any:
            def take(x: Array, like: Array) -> Array:
                row = jax.lax.dynamic_index_in_dim(x, part, axis=1, keepdims=False)
                return _from_bits(row, like.dtype)

            return function(*jax.tree.map(take, split, arrays))

        def body(part: Any, whole: Any) -> Any:
            def put(x: Array, new: Array) -> Array:
                bits = _as_bits(new)
                return jax.lax.dynamic_update_index_in_dim(x, bits, part, axis=1)

            return jax.tree.map(put, whole, block(part))

        first = block(0)
        whole = jax.tree.map(
            lambda x: jnp.repeat(_as_bits(x)[:, None], parts, axis=1), first
        )
        whole = jax.lax.fori_loop(1, parts, body, whole)
        return jax.tree.map(
            lambda x, like: _from_bits(x, like.dtype).reshape(-1, *x.shape[2:]),
            whole,
            first,
        )

    return jax.lax.platform_dependent(logits, *rest, cpu=looped, default=function)


# On a CPU, XLA slices what it has made float32 of the whole array, in every turn.
def _as_bits(x: Array) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.itemsize == 2 else x


def _from_bits(x: Array, dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(x, dtype) if x.itemsize == 2 else x


def _elements(
    clone: Array,
    baseline: Array,
    targets: Array,
    confusing: Array | None,
    temperature: Any,
    rows: _Rows,
    class_axis: str | None,
) -> tuple[Array, Array, Array, Array]:
    """The clone's probabilities, their logarithms, its shifted logits, and the set.

    The shifted logits are those less `peak`.
    """
    centred, above = clone - rows.peak, baseline - rows.baseline_peak
    probs = jnp.exp(centred) / rows.total
    lead = probs - jnp.exp(above) / rows.baseline_total
    if confusing is None:
        odds = jnp.exp(above / temperature)
        # softmax > 1/C without the division, so that equal logits are never "above".
        confusing = odds * _num_classes(clone, class_axis) > rows.softened_total
    in_set = confusing | (targets > 0)
    return probs, centred - jnp.log(rows.total), centred + lead, in_set


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
    above = baseline_logits - _peak(baseline_logits, None)
    odds = jnp.exp(above / temperature)
    # As in `_elements`.
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


def _peak(logits: Array, class_axis: str | None) -> Array:
    """`[..., 1]`. What is subtracted and added again has no part in a gradient."""
    peak = jnp.max(jax.lax.stop_gradient(logits), axis=-1, keepdims=True)
    return peak if class_axis is None else jax.lax.pmax(peak, class_axis)


def _total(values: Array, class_axis: str | None) -> Array:
    """`[..., 1]`."""
    total = jnp.sum(values, axis=-1, keepdims=True)
    return total if class_axis is None else jax.lax.psum(total, class_axis)


def _num_classes(logits: Array, class_axis: str | None) -> int:
    parts = 1 if class_axis is None else jax.lax.axis_size(class_axis)
    return parts * logits.shape[-1]


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
    labels: Num[Array, "..."],
    logits: Float[Array, "... classes"],
    class_axis: str | None = None,
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
    local = labels
    if class_axis is not None:
        local = labels - jax.lax.axis_index(class_axis) * logits.shape[-1]
    one_hot = jax.nn.one_hot(local, logits.shape[-1], dtype=logits.dtype)
    # An impossible label must be seen: a row of zeros would train on silently.
    valid = (labels >= 0) & (labels < _num_classes(logits, class_axis))
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


def _check_class_axis(class_axis: str | None, logits: Array) -> None:
    aval = jax.typeof(logits)
    # JAX 0.10.2 has renamed it.
    varying = aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying
    if class_axis is not None and class_axis not in varying:
        raise ValueError(
            f"clone_logits are not known to differ along class_axis {class_axis!r}; "
            "expected classes that are split over it under jax.shard_map with "
            "check_vma=True, its default: without, the gradient would be wrong."
        )


def _check_temperature(temperature: float) -> None:
    # A traced temperature (a schedule under jit) has no value to look at.
    if isinstance(temperature, float | int) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected above 0.")
