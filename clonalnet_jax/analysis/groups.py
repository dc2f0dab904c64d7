"""Groups of classes that a network takes for one another, from a confusion matrix."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Num
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform


class ConfusedGroup(NamedTuple):
    """Classes that are taken for one another.

    Attributes:
      members: The classes of the group, at least two, in the order of `cluster_order`.
      rate: The rate at which one of them is taken for another, mean over their pairs.
    """

    members: tuple[int, ...]
    rate: float


def confused_groups(
    matrix: Num[ArrayLike, "classes classes"], *, lift: float = 2.0
) -> list[ConfusedGroup]:
    """Finds groups of classes that are taken for one another.

    The confusion graph joins two classes by the rate at which they are swapped; its
    average-linkage tree (Sokal and Michener 1958) is cut where classes are swapped
    `lift` times as often as two classes are on average.

    Args:
      matrix: Counts, with the images of class `i` that are taken for `k` at `[i, k]`,
        such as `Confusion.baseline`. The diagonal counts for the rates alone.
      lift: A number above 0. A greater one makes smaller groups.

    Returns:
      The groups of at least two classes, those that are swapped most often first.
      There is none where nothing is confused.
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
    """Orders the classes so that those that are confused lie next to each other.

    Args:
      matrix: The matrix that `confused_groups` takes.

    Returns:
      Every class once.
    """
    graph = _swap_rates(matrix)
    if not graph.any():
        return list(range(len(graph)))
    return hierarchy.leaves_list(_linkage(graph)).tolist()


def _swap_rates(matrix: Num[ArrayLike, "classes classes"]) -> np.ndarray:
    """Makes the confusion graph: the rate at which each two classes are swapped."""
    counts = np.asarray(matrix, np.float64)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(rates, 0.0)
    return (rates + rates.T) / 2


def _mean_rate(graph: np.ndarray) -> float:
    """Averages over the pairs of classes."""
    return float(graph.sum() / (len(graph) * (len(graph) - 1)))


def _linkage(graph: np.ndarray) -> np.ndarray:
    distances = squareform(1 - graph / graph.max(), checks=False)
    return hierarchy.linkage(distances, method="average", optimal_ordering=True)
