"""What the report draws: each function gives a figure for `rendering.render`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clonalnet_jax.analysis.reliability import Reliability, RiskCoverage
from clonalnet_jax.errors import displayable
from clonalnet_jax.report.rendering import Drawing, Theme

# Classes of a matrix whose counts fit into their cells.
_WRITTEN = 12
# Lines differ by more than their colours.
_STYLES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    clone: str,
    ylabel: str,
) -> Drawing:
    """A line for each run.

    Args:
      curves: Steps and values by run.
      clone: Name of the run that is the clone.
      ylabel: Label of the values.

    Returns:
      The figure.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for position, (run, (steps, values)) in enumerate(curves.items()):
            axes.plot(
                steps,
                values,
                label=short(run),
                marker="o" if len(steps) <= 12 else None,
                **_line(theme, run, clone, position),
            )
        axes.set(xlabel="step", ylabel=short(ylabel, 48))
        axes.set_xticks(
            _ticks([step for steps, _ in curves.values() for step in steps])
        )
        _legend(axes)

    return Drawing(
        draw,
        ("curve", "step", ylabel),
        [
            (run, *point)
            for run, curve in curves.items()
            for point in zip(*curve, strict=True)
        ],
    )


def _ticks(steps: Sequence[float]) -> list[float]:
    """Five steps that were measured, evenly spread; the last is one of them."""
    known = sorted(set(steps))
    places = np.linspace(len(known) - 1, 0, min(5, len(known))).round().astype(int)
    return [known[place] for place in sorted(set(places.tolist()))]


def draw_pairs(
    names: Sequence[tuple[str, str]], before: Sequence[int], after: Sequence[int]
) -> Drawing:
    """Errors of the baseline and of the clone on pairs of classes, joined by a line.

    Args:
      names: Names of the classes of each pair.
      before: Images that the baseline swaps.
      after: Images that the clone swaps.

    Returns:
      The figure, the first pair on top.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        rows = np.arange(len(names))
        axes.hlines(rows, before, after, color=theme.grid, linewidth=3, zorder=1)
        for values, label, marker, colour in (
            (before, "baseline", "o", theme.baseline),
            (after, "clone", "D", theme.clone),
        ):
            axes.scatter(values, rows, c=colour, marker=marker, label=label, zorder=2)
        axes.set_yticks(
            rows, [" ↔ ".join(short(n, 14) for n in pair) for pair in names]
        )
        axes.set(xlabel="images swapped", xlim=(-0.4, None))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(visible=False, axis="y")
        _legend(axes)

    return Drawing(
        draw,
        ("class", "other class", "baseline", "clone"),
        [(*pair, *counts) for pair, *counts in zip(names, before, after, strict=True)],
    )


def draw_gains(names: Sequence[str], gains: Sequence[float]) -> Drawing:
    """Percentage points gained or lost on each class.

    Args:
      names: Names of the classes.
      gains: Gains of the classes, in the same order.

    Returns:
      The figure, the first class on top.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        rows = np.arange(len(names))
        colours = [theme.clone if gain >= 0 else theme.baseline for gain in gains]
        axes.barh(rows, gains, color=colours, height=0.7)
        axes.axvline(0, color=theme.text, linewidth=0.8)
        axes.set_yticks(rows, [short(name) for name in names])
        axes.set(xlabel="gain in accuracy, percentage points")
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")

    return Drawing(
        draw,
        ("class", "gain in accuracy, percentage points"),
        list(zip(names, gains, strict=True)),
    )


def draw_matrix(names: Sequence[str], matrix: np.ndarray, *, top: float) -> Drawing:
    """A confusion matrix.

    Args:
      names: Names of the classes, in the order of the rows.
      matrix: Counts `[i, k]`, what is not to be shown left 0.
      top: Top of the colour scale, so that several matrices can share one.

    Returns:
      The figure.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        drawn = axes.imshow(matrix, cmap=theme.colormap, vmin=0, vmax=max(1, top))
        labels = [short(name, 12) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90)
        axes.set_yticks(range(len(names)), labels)
        axes.set(xlabel="answer", ylabel="true class")
        axes.grid(visible=False)
        axes.tick_params(length=0, labelsize=9 if len(names) <= 14 else 7)
        if len(names) <= _WRITTEN:
            _write_counts(axes, theme, matrix, max(1, top))
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.6, label="images")
        bar.outline.set_edgecolor(theme.grid)
        bar.locator = MaxNLocator(5, integer=True)

    return Drawing(
        draw,
        ("true class", *(f"answer {name}" for name in names)),
        [
            (name, *row)
            for name, row in zip(names, np.asarray(matrix).tolist(), strict=True)
        ],
    )


def _write_counts(axes: Axes, theme: Theme, matrix: np.ndarray, top: float) -> None:
    """Writes what is not 0 into its cell, in the colour that stands out from it."""
    for row, column in np.argwhere(matrix > 0):
        count = matrix[row, column]
        red, green, blue, _ = theme.colormap(count / top)
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axes.text(
            column,
            row,
            f"{count:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="#1f2328" if is_light else "#ffffff",
        )


def draw_reliability(diagram: Reliability, *, clone: bool) -> Drawing:
    """Accuracy by confidence, and how many images there are of each.

    Args:
      diagram: The diagram of `reliability.reliability`.
      clone: Whether it is the clone's, which gives the colour.

    Returns:
      The figure.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        colour = theme.clone if clone else theme.baseline
        full = diagram.images > 0
        low, width = diagram.edges[:-1][full], np.diff(diagram.edges)[full]
        share = diagram.images[full] / diagram.images.sum()
        axes.bar(low, share, width, align="edge", color=theme.grid)
        axes.plot([0, 1], [0, 1], color=theme.text, linewidth=1, linestyle=":")
        axes.plot(
            diagram.confidence[full],
            diagram.accuracy[full],
            color=colour,
            marker="D" if clone else "o",
            markersize=5,
            clip_on=False,
        )
        axes.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
        axes.set_ylabel("accuracy; share of images (bars)")
        axes.set_title(f"ece {diagram.ece:.1f} %", loc="left")

    edges = diagram.edges.tolist()
    return Drawing(
        draw,
        ("confidence from", "to", "images", "mean confidence", "accuracy"),
        list(
            zip(
                edges[:-1],
                edges[1:],
                diagram.images.tolist(),
                diagram.confidence.tolist(),
                diagram.accuracy.tolist(),
                strict=True,
            )
        ),
    )


def draw_risk_coverage(curves: Mapping[str, RiskCoverage], clone: str) -> Drawing:
    """The error among the images that a network is most sure of, by their share.

    Args:
      curves: The curves by run.
      clone: Name of the run that is the clone.

    Returns:
      The figure.
    """
    points = {run: _thinned(curve) for run, curve in curves.items()}
    headings = ("run", "images answered, %", "wrong among them, %")

    def draw(axes: Axes, theme: Theme) -> None:
        for position, (run, drawn) in enumerate(points.items()):
            axes.plot(*drawn.T, label=short(run), **_line(theme, run, clone, position))
        axes.set(xlabel=headings[1], ylabel=headings[2])
        axes.set(xlim=(0, 100), ylim=(0, None))
        _legend(axes)

    rows = [(run, *point) for run, drawn in points.items() for point in drawn.tolist()]
    return Drawing(draw, headings, rows)


def _thinned(curve: RiskCoverage) -> np.ndarray:
    """Coverage and risk in percent: a point a pixel keeps the page small."""
    points = np.unique(np.linspace(0, len(curve.risk) - 1, 300).astype(int))
    return 100 * np.stack([curve.coverage[points], curve.risk[points]], axis=1)


def draw_differences(
    names: Sequence[str],
    means: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    shown: Sequence[bool],
    xlabel: str,
) -> Drawing:
    """Mean differences with their intervals around zero.

    Args:
      names: Names of the differences.
      means: Means of the differences.
      intervals: Low and high ends.
      shown: Whether the test shows each; the others are grey.
      xlabel: Label of the differences.

    Returns:
      The figure, the first one on top.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        axes.axvline(0, color=theme.text, linewidth=0.8)
        rows = zip(means, intervals, shown, strict=True)
        for row, (mean, (low, high), is_shown) in enumerate(rows):
            colour = theme.others[-1]
            if is_shown:
                colour = theme.clone if mean > 0 else theme.baseline
            axes.hlines(row, low, high, color=colour, linewidth=2)
            axes.plot(mean, row, marker="D", color=colour)
        axes.set_yticks(range(len(names)), [short(name, 36) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set(xlabel=short(xlabel, 48))
        axes.grid(visible=False, axis="y")

    return Drawing(
        draw,
        ("of", xlabel, "low end of the interval", "high end", "shown"),
        [
            (name, mean, *interval, str(is_shown))
            for name, mean, interval, is_shown in zip(
                names, means, intervals, shown, strict=True
            )
        ],
    )


def short(name: str, length: int = 24) -> str:
    """A name that fits beside an axis, its middle left out where it is too long."""
    name = displayable(name, limit=None)
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _line(theme: Theme, run: str, clone: str, position: int) -> dict[str, Any]:
    """How a run's line looks: the two that matter are solid and wide."""
    main = run in ("baseline", clone)
    return {
        "color": theme.colour(run, clone, position),
        "linestyle": "-" if main else _STYLES[position % len(_STYLES)],
        "linewidth": 2.2 if run == clone else 1.6,
        "markersize": 4,
        "zorder": 3 if main else 2,
    }


def _legend(axes: Axes) -> None:
    """Above the axes, where it can hide nothing; no wider than they are."""
    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=max(1, min(3, 54 // (longest + 6))),
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.8,
    )
