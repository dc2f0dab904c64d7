"""The attention term in closed form: its value, its target, and its labels' gradient.

An integer label is added to the baseline's own set `S`, and the target is `1 / |S|` on
the result. For labels that are a distribution `y`, the target is the expectation of
this over the label `j`, which changes the set only if it is not in `S` already (see
`multi_warm_labels`). With `l` the logarithms of the clone's probabilities and `n` the
size of `S`, the term is minus this sum over a row:

    sum(y in S) sum(l in S) / n
    + (sum(y not in S) sum(l in S) + sum(y l not in S)) / (n + 1)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._confusing import expected_weights


class AttentionSums(NamedTuple):
    """Sums over rows, `[..., 1]`. With integer labels all but the first are None."""

    set_size: Array
    """The number of categories in the set."""
    inside: Array | None = None
    """The targets' sum over the set."""
    outside: Array | None = None
    """The targets' sum over all other categories."""
    log_probs: Array | None = None
    """The sum of the clone's logarithmic probabilities over the set."""


def attention_sums(
    log_probs: Float[Array, "... classes"],
    in_set: Bool[Array, "... classes"],
    targets: Float[Array, "... classes"] | None,
    total: Callable[[Array], Array],
) -> tuple[Float[Array, "... 1"], AttentionSums]:
    """Computes the attention term of each row, and the sums that its gradients need.

    Args:
      log_probs: The logarithms of the clone's probabilities.
      in_set: The confusing categories: with integer labels these and the label, with
        distributions the baseline's own.
      targets: The labels' distribution; None for integer labels.
      total: Sums each row, over all devices that it is split over.

    Returns:
      The term, and the sums.
    """
    set_size = total(in_set.astype(log_probs.dtype))
    of_set = total(jnp.where(in_set, log_probs, 0.0))
    if targets is None:
        return -of_set / set_size, AttentionSums(set_size)
    inside = total(jnp.where(in_set, targets, 0.0))
    outside = total(jnp.where(in_set, 0.0, targets))
    of_others = total(jnp.where(in_set, 0.0, targets * log_probs))
    # If the set is empty, `inside` is 0, and 0 / 0 would be NaN.
    value = -(
        inside * of_set / jnp.maximum(set_size, 1.0)
        + (outside * of_set + of_others) / (set_size + 1.0)
    )
    return value, AttentionSums(set_size, inside, outside, of_set)


def attention_target(
    in_set: Bool[Array, "... classes"],
    targets: Float[Array, "... classes"],
    sums: AttentionSums,
) -> Float[Array, "... classes"]:
    """Computes the multi-warm labels from the sums; see `attention_sums`."""
    if sums.inside is None or sums.outside is None:
        return jnp.where(in_set, 1.0 / sums.set_size, 0.0)
    return expected_weights(
        in_set,
        targets,
        set_size=sums.set_size,
        inside=sums.inside,
        outside=sums.outside,
    )


def attention_of_labels(
    log_probs: Float[Array, "... classes"],
    in_set: Bool[Array, "... classes"],
    sums: AttentionSums,
) -> Float[Array, "... classes"]:
    """Computes the gradient of the labels: the term if each category were the label."""
    assert sums.log_probs is not None  # integer labels have no gradient
    of_set = -sums.log_probs / jnp.maximum(sums.set_size, 1.0)
    joined = -(sums.log_probs + log_probs) / (sums.set_size + 1.0)
    return jnp.where(in_set, of_set, joined)
