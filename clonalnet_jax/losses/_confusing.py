"""The categories that confuse a baseline, and the labels that are made of them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from ._inputs import as_distribution, check_temperature, promote


def confusing_categories(
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."] | None = None,
    *,
    temperature: float = 2.0,
) -> Bool[Array, "... classes"]:
    """Finds the categories that confuse the baseline on each image, and the true one.

    `S = {k : softmax(baseline_logits / temperature)_k > 1/C}` plus the label. With
    labels that are distributions, every category of positive weight is added: these
    are the categories that `multi_warm_labels` gives weight to.

    Args:
      baseline_logits: The baseline's logits, `[..., C]`.
      labels: Integers `[...]` or floating distributions `[..., C]`. None gives the
        baseline's own set, which may be empty, for `confusing=` of the loss.
      temperature: A scalar above 0; greater is softer. At a high temperature only the
        order of the logits around their mean matters.

    Returns:
      Boolean mask `[..., C]`.

    Raises:
      TypeError: The logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    check_temperature(temperature)
    (logits,) = promote(baseline_logits)
    odds = jnp.exp((logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature)
    odds_total = jnp.sum(odds, axis=-1, keepdims=True)
    own = above_average(odds, odds_total, logits.shape[-1])
    return own if labels is None else own | (as_distribution(labels, logits) > 0)


def multi_warm_labels(
    baseline_logits: Float[Array, "... classes"],
    labels: Num[Array, "..."],
    *,
    temperature: float = 2.0,
) -> Float[Array, "... classes"]:
    """Gives every confusing category the same weight, `[k in S] / |S|`.

    The paper has integer labels. For distributions `y` this is the expectation over
    the label, which is our own extension: with `S` the baseline's own set, each
    category `j` contributes `y_j` times the equal weights over `S` and `j`. It equals
    the definition for integer labels, and it is continuous (linear, even) in `y`: a
    category of weight 1e-7 hardly counts.

    Args:
      baseline_logits: The baseline's logits, `[..., C]`. No gradient flows into them.
      labels: Integers `[...]` or floating distributions `[..., C]`. An integer outside
        `[0, C)` gives NaN.
      temperature: The temperature of `confusing_categories`, a scalar above 0.

    Returns:
      `[..., C]`, whose rows have the sums of the labels' (1 for integers); float32
      (float64 if the logits are).

    Raises:
      TypeError: The logits are not floating point.
      ValueError: Shapes do not match, or the temperature is not a scalar above 0.
    """
    own = confusing_categories(baseline_logits, temperature=temperature)
    targets = as_distribution(labels, promote(baseline_logits)[0])
    return expected_weights(
        own,
        targets,
        set_size=jnp.sum(own, axis=-1, keepdims=True, dtype=targets.dtype),
        inside=jnp.sum(jnp.where(own, targets, 0.0), axis=-1, keepdims=True),
        outside=jnp.sum(jnp.where(own, 0.0, targets), axis=-1, keepdims=True),
    )


def above_average(
    odds: Float[Array, "... classes"],
    odds_total: Float[Array, "... 1"],
    num_classes: int,
) -> Bool[Array, "... classes"]:
    """Whether `odds / odds_total > 1/C`; rounding never makes it true of equal odds."""
    return odds * num_classes > odds_total


def expected_weights(
    own: Bool[Array, "... classes"],
    targets: Float[Array, "... classes"],
    *,
    set_size: Float[Array, "... 1"],
    inside: Float[Array, "... 1"],
    outside: Float[Array, "... 1"],
) -> Float[Array, "... classes"]:
    """Computes the expectation, over the label, of equal weights on the confusing set.

    The set is the baseline's own set and the label. A label that is in the baseline's
    set already does not change it.

    Args:
      own: The baseline's own set.
      targets: The distribution of the label.
      set_size: The number of categories of the set.
      inside: The labels' weight on the set.
      outside: The labels' weight on all other categories.

    Returns:
      The weight of each category.
    """
    # If the set is empty, `inside` is 0, and 0 / 0 would be NaN.
    of_set = inside / jnp.maximum(set_size, 1) + outside / (set_size + 1)
    return jnp.where(own, of_set, targets / (set_size + 1))
