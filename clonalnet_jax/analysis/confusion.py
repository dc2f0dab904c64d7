"""Counts which categories confuse a baseline, and what a clone does about them.

Logits and labels are those of one set of images. Matrices are `[classes, classes]`,
with the true class in the row.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from clonalnet_jax.analysis.groups import ConfusedGroup, cluster_order, confused_groups
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
    """Counts of what two networks answer on the same images, by the true class.

    Attributes:
      confusing: Entry `[i, k]` counts the images of class `i` with category `k` in the
        baseline's confusing set. The diagonal counts all images of the class.
      baseline: Entry `[i, k]` counts the images of class `i` that the baseline takes
        for `k`.
      clone: The counts of `baseline`, for the clone.
    """

    confusing: Matrix
    baseline: Matrix
    clone: Matrix

    @property
    def support(self) -> Int[np.ndarray, " classes"]:
        """The number of images of each class."""
        return np.diag(self.confusing)


class ConfusingCategory(NamedTuple):
    """A category that confuses the baseline on images of another class.

    Attributes:
      category: Index of the category.
      confusing: Share of the class's images on which it is in the confusing set.
      baseline: Share of them that the baseline takes for it.
      clone: Share of them that the clone takes for it.
    """

    category: int
    confusing: float
    baseline: float
    clone: float


class ConfusedPair(NamedTuple):
    """Two classes that are taken for each other, either way.

    Attributes:
      first: The lower index.
      second: The higher index.
      confusing: Number of images of one class with the other in the confusing set.
      baseline: Number of images of one class that the baseline takes for the other.
      clone: Number of images of one class that the clone takes for the other.
    """

    first: int
    second: int
    confusing: int
    baseline: int
    clone: int


def count_confusion(
    baseline_logits: Float[ArrayLike, "n classes"],
    clone_logits: Float[ArrayLike, "n classes"],
    labels: Int[ArrayLike, " n"],
    *,
    temperature: float = 2.0,
) -> Confusion:
    """Counts what confuses a baseline, and what a clone makes of it.

    Args:
      baseline_logits: The baseline's logits, `[n, classes]`.
      clone_logits: The clone's logits on the same images, `[n, classes]`.
      labels: Indices of the true classes, `[n]`.
      temperature: The loss's temperature; see `losses.confusing_categories`.

    Returns:
      The three matrices.

    Raises:
      ValueError: Shapes do not match.
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
      logits: The logits, `[n, classes]`.
      labels: Indices of the true classes, `[n]`.

    Returns:
      `[classes, classes]`, int64; its sum is `n`, its trace the correct answers.

    Raises:
      ValueError: Shapes do not match, or a label is no class.
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
    """Lists the categories that confuse the baseline on a class, worst first.

    Args:
      confusion: The counts of `count_confusion`.
      label: Index of the class.
      limit: The greatest number to return.

    Returns:
      The categories that are in a confusing set or answered at least once, ordered by
      the baseline's errors, then by how often they are in the set.
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
    """Lists the pairs of classes that the baseline swaps most, most first.

    Args:
      confusion: The counts of `count_confusion`.
      limit: The greatest number to return.

    Returns:
      The pairs that the baseline or the clone swaps at least once, ordered by the
      baseline's errors, then by how often one is in the other's confusing set.
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
    """Computes the percentage points that the clone gains on each class.

    Args:
      confusion: The counts of `count_confusion`.

    Returns:
      `[classes]`, NaN where a class has no images.
    """
    gained = np.diag(confusion.clone) - np.diag(confusion.baseline)
    with np.errstate(invalid="ignore"):
        return 100.0 * gained / confusion.support


def _either_way(matrix: Matrix) -> Matrix:
    return matrix + matrix.T
