"""The attention term in closed form: its value, its target, what the labels cost in it.

An integer label joins the baseline's own set `S`, and the target is `1 / |S|` on it. A
distribution `y` has the expectation of that for its target: each label `j` of `S`
leaves the set as it is, each other one joins it (see `multi_warm_labels`). In sums over
rows, with `l` the logarithms of the clone's probabilities and `n` the size of `S`:

    sum(y in S) sum(l in S) / n
    + (sum(y not in S) sum(l in S) + sum(y l not in S)) / (n + 1)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._confusing import expected_weights


class AttentionSums(NamedTuple):
    """Sums over whole rows, `[..., 1]`; None but the first for integer labels."""

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
    """The attention term of each row, and what its gradients need.

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
    # An empty set has no label inside, and its quotient must not be 0 / 0.
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
    """The multi-warm labels, of the sums; arguments as for `attention_sums`."""
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
    """What the term would be if a category were the label: the labels' gradient."""
    assert sums.log_probs is not None  # integer labels have no gradient
    of_set = -sums.log_probs / jnp.maximum(sums.set_size, 1.0)
    joined = -(sums.log_probs + log_probs) / (sums.set_size + 1.0)
    return jnp.where(in_set, of_set, joined)
