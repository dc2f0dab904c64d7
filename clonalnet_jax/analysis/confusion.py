"""Which categories confuse a baseline, what a clone learns from them, and what for.

The statistics take logits and labels of one set of images, and count. Their matrices
are `[classes, classes]` with the true class in the row.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Num
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from clonalnet_jax.losses import confusing_categories, multi_warm_labels

__all__ = [
    "ConfusedGroup",
    "ConfusedPair",
    "ConfusingCategory",
    "Confusion",
    "class_gains",
    "cluster_order",
    "confused_groups",
    "confused_pairs",
    "confusing_categories",
    "confusing_of",
    "confusion_matrix",
    "count_confusion",
    "multi_warm_labels",
]

Matrix = Int[np.ndarray, "classes classes"]


class Confusion(NamedTuple):
    """What two networks take for what, on the same images.

    Attributes:
      confusing: `[i, k]` images of class `i` on which category `k` is in the loss's
        confusing set of the baseline; on the diagonal, all images of the class.
      baseline: `[i, k]` images of class `i` that the baseline takes for `k`.
      clone: the same of the clone.
    """

    confusing: Matrix
    baseline: Matrix
    clone: Matrix

    @property
    def support(self) -> Int[np.ndarray, " classes"]:
        """Images of each class."""
        return np.diag(self.confusing)


class ConfusingCategory(NamedTuple):
    """A category that confuses the baseline on images of another class.

    Attributes:
      category: its index.
      confusing: share of the class's images on which it is in the confusing set.
      baseline: share of them that the baseline takes for it.
      clone: share of them that the clone takes for it.
    """

    category: int
    confusing: float
    baseline: float
    clone: float


class ConfusedPair(NamedTuple):
    """Two classes that are taken for each other, either way.

    Attributes:
      first: the lower index.
      second: the higher index.
      confusing: images of one on which the other is in the confusing set.
      baseline: images that the baseline swaps.
      clone: images that the clone swaps.
    """

    first: int
    second: int
    confusing: int
    baseline: int
    clone: int


class ConfusedGroup(NamedTuple):
    """Classes that are taken for one another.

    Attributes:
      members: The classes of the group, at least two, in the order of `cluster_order`.
      rate: The rate at which one of them is taken for another, mean over their pairs.
    """

    members: tuple[int, ...]
    rate: float


def count_confusion(
    baseline_logits: Float[ArrayLike, "n classes"],
    clone_logits: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    *,
    temperature: float = 2.0,
) -> Confusion:
    """Counts what confuses a baseline, and what a clone makes of it.

    Args:
      baseline_logits: `[n, classes]`.
      clone_logits: `[n, classes]`, of the same images.
      labels: class indices `[n]`.
      temperature: The loss's temperature; see `losses.confusing_categories`.

    Returns:
      The three matrices.

    Raises:
      ValueError: shapes do not match.
    """
    baseline_logits, clone_logits = (
        np.asarray(baseline_logits),
        np.asarray(clone_logits),
    )
    labels = np.asarray(labels)
    if baseline_logits.shape != clone_logits.shape:
        raise ValueError(
            f"baseline_logits have shape {baseline_logits.shape}, clone_logits "
            f"{clone_logits.shape}; expected the same images and classes."
        )
    before = confusion_matrix(baseline_logits, labels)
    after = confusion_matrix(clone_logits, labels)
    sets = confusing_categories(
        jnp.asarray(baseline_logits), jnp.asarray(labels), temperature=temperature
    )
    confusing = np.zeros_like(before)
    np.add.at(confusing, labels, np.asarray(sets, np.int64))
    return Confusion(confusing, before, after)


def confusion_matrix(
    logits: Float[ArrayLike, "n classes"], labels: Int[ArrayLike, " n"]
) -> Matrix:
    """Counts the answers: `[i, k]` images of class `i` whose greatest logit is `k`.

    Args:
      logits: `[n, classes]`.
      labels: class indices `[n]`.

    Returns:
      `[classes, classes]`, int64; its sum is `n`, its trace the correct answers.

    Raises:
      ValueError: shapes do not match, or a label is no class.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits have shape {logits.shape}, labels {labels.shape}; expected "
            "[n, classes] and [n]."
        )
    classes = logits.shape[1]
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels reach from {labels.min()} to {labels.max()}; expected 0 to "
            f"{classes - 1}, the classes of the logits."
        )
    cells = labels.astype(np.int64) * classes + logits.argmax(axis=-1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def confusing_of(
    confusion: Confusion, label: int, *, limit: int = 5
) -> list[ConfusingCategory]:
    """The categories that confuse the baseline on a class's images, worst first.

    Args:
      confusion: The counts of `count_confusion`.
      label: the class.
      limit: The greatest number to return.

    Returns:
      Those that are in a confusing set or answered at least once: by the baseline's
      errors, then by how often they are in the set.
    """
    count = max(1, confusion.support[label])
    sets, before, after = (matrix[label] for matrix in confusion)
    order = np.lexsort((-sets, -before))
    seen = [k for k in order if k != label and sets[k] + before[k] + after[k] > 0]
    return [
        ConfusingCategory(
            int(k),
            float(sets[k] / count),
            float(before[k] / count),
            float(after[k] / count),
        )
        for k in seen[:limit]
    ]


def confused_pairs(confusion: Confusion, *, limit: int = 10) -> list[ConfusedPair]:
    """The pairs of classes that the baseline swaps most, most first.

    Args:
      confusion: The counts of `count_confusion`.
      limit: The greatest number to return.

    Returns:
      Pairs that the baseline or the clone swaps at least once: by the baseline's
      errors, then by how often one is in the other's confusing set.
    """
    sets, before, after = (_either_way(matrix) for matrix in confusion)
    first, second = np.triu_indices(len(sets), k=1)
    order = np.lexsort((-sets[first, second], -before[first, second]))
    pairs = [
        ConfusedPair(i, j, int(sets[i, j]), int(before[i, j]), int(after[i, j]))
        for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True)
        if before[i, j] + after[i, j] > 0
    ]
    return pairs[:limit]


def class_gains(confusion: Confusion) -> Float[np.ndarray, " classes"]:
    """Percentage points that the clone gains over the baseline on each class.

    Args:
      confusion: The counts of `count_confusion`.

    Returns:
      `[classes]`, NaN where a class has no images.
    """
    gained = np.diag(confusion.clone) - np.diag(confusion.baseline)
    with np.errstate(invalid="ignore"):
        return 100.0 * gained / confusion.support


def confused_groups(
    matrix: Num[ArrayLike, "classes classes"], *, lift: float = 2.0
) -> list[ConfusedGroup]:
    """Groups of classes that are taken for one another.

    The confusion graph joins two classes by the rate at which they are swapped; its
    average-linkage tree (Sokal and Michener 1958) is cut where classes are swapped
    `lift` times as often as two classes are on average.

    Args:
      matrix: `[i, k]` images of class `i` taken for `k`, such as
        `Confusion.baseline`; the diagonal makes its rates and joins nothing.
      lift: above 0; greater makes smaller groups.

    Returns:
      The groups of at least two classes, those that are swapped most often first;
      none where nothing is confused.
    """
    graph = _swap_rates(matrix)
    if not graph.any():
        return []
    tree = _linkage(graph)
    highest = 1 - lift * _mean_rate(graph) / graph.max()
    cut = hierarchy.fcluster(tree, highest, "distance")
    order = hierarchy.leaves_list(tree)
    groups = []
    for number in dict.fromkeys(cut[order]):
        members = order[cut[order] == number]
        if len(members) > 1:
            rate = _mean_rate(graph[np.ix_(members, members)])
            groups.append(ConfusedGroup(tuple(members.tolist()), rate))
    return sorted(groups, key=lambda group: -group.rate)


def cluster_order(matrix: Num[ArrayLike, "classes classes"]) -> list[int]:
    """An order of the classes that puts those next to each other that are confused.

    Args:
      matrix: The matrix that `confused_groups` takes.

    Returns:
      Every class once.
    """
    graph = _swap_rates(matrix)
    if not graph.any():
        return list(range(len(graph)))
    return hierarchy.leaves_list(_linkage(graph)).tolist()


def _either_way(matrix: Matrix) -> Matrix:
    return matrix + matrix.T


def _swap_rates(matrix: Num[ArrayLike, "classes classes"]) -> np.ndarray:
    """The confusion graph: how often `i` is taken for `k` or `k` for `i`, as a rate."""
    counts = np.asarray(matrix, np.float64)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(rates, 0.0)
    return (rates + rates.T) / 2


def _mean_rate(graph: np.ndarray) -> float:
    """Over the pairs of classes."""
    return float(graph.sum() / (len(graph) * (len(graph) - 1)))


def _linkage(graph: np.ndarray) -> np.ndarray:
    distances = squareform(1 - graph / graph.max(), checks=False)
    return hierarchy.linkage(distances, method="average", optimal_ordering=True)
