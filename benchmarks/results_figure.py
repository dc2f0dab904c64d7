"""Draws the clone's differences of docs/results.md: what is shown, and what is not.

    python benchmarks/results_figure.py --figure=docs/results.svg

Each row `clone` or `clone_tuned` of a table is a line for each of its references. The
colours suit a light and a dark page.
"""

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent

_NUMBER = r"([+-][\d.]+)"
_INTERVAL = re.compile(rf"(\*\*)?{_NUMBER} \({_NUMBER} to {_NUMBER}\)")
# What the axis shows to either side, in points.
_MOST = 4.0
_GREY, _BLUE, _RED = "#7d8590", "#2f81c7", "#d1662a"


class Line(NamedTuple):
    """A difference.

    Attributes:
      section: Heading of its table.
      reference: Heading of its column, such as `retraining`.
      mean: The difference in points of top-1.
      low: End of its 95 % interval.
      high: Its other end.
      shown: Whether the corrected test shows it.
    """

    section: str
    reference: str
    mean: float
    low: float
    high: float
    shown: bool


def read(text: str) -> list[Line]:
    """Reads the rows `clone` of a page's tables.

    Args:
      text: The page, in Markdown.

    Returns:
      Their differences, in order.
    """
    found, headings, columns = [], dict[int, str](), list[str]()
    for line in text.splitlines():
        if heading := re.match(r"(#+) (.*)", line):
            level = len(heading[1])
            headings = {k: v for k, v in headings.items() if k < level}
            headings[level] = heading[2]
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == "run":
            columns = [re.sub(r"minus | \(.*", "", cell) for cell in cells]
        if cells[0] not in ("clone", "clone_tuned"):
            continue
        first, *others = [v for k, v in sorted(headings.items()) if k > 1]
        section = ", ".join([first, *(v[0].lower() + v[1:] for v in others)])
        if cells[0] == "clone_tuned":
            section += ", as tuned"
        for column, cell in zip(columns, cells, strict=False):
            if match := _INTERVAL.match(cell):
                mean, low, high = map(float, match.groups()[1:])
                found.append(Line(section, column, mean, low, high, bool(match[1])))
    return found


def draw(lines: list[Line]) -> Figure:
    """Draws a forest plot, a group for each table."""
    groups = list(dict.fromkeys(line.section for line in lines))
    figure = Figure(figsize=(8.4, 0.9 + 0.5 * len(groups) + 0.16 * len(lines)))
    axes = figure.add_subplot()
    row, ticks = 0.0, []
    for group in groups:
        axes.text(0, row, group, ha="right", transform=_at_left(axes), color=_GREY)
        for line in (one for one in lines if one.section == group):
            row += 0.6
            colour = _GREY if not line.shown else _BLUE if line.mean > 0 else _RED
            ends = np.clip([line.low, line.high], -_MOST, _MOST)
            axes.hlines(row, *ends, color=colour, linewidth=2)
            if abs(line.mean) <= _MOST:
                axes.plot(line.mean, row, marker="D", markersize=5, color=colour)
            else:
                _point_beyond(axes, row, line.mean, colour)
            ticks.append((row, f"minus {line.reference}"))
        row += 0.9
    axes.set_yticks(*zip(*ticks, strict=True))
    axes.set_ylim(row - 0.3, -0.5)
    axes.set_xlim(-_MOST, _MOST)
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.set_xlabel("top-1 of the clone minus that of its rival, points")
    axes.tick_params(colors=_GREY)
    axes.xaxis.label.set_color(_GREY)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GREY)
    axes.tick_params(axis="y", length=0)
    return figure


def _point_beyond(axes: mpl.axes.Axes, row: float, mean: float, colour: str) -> None:
    """Points out of the figure, to a difference that would make all others small."""
    edge, away = np.copysign(_MOST, mean), np.sign(mean)
    marker = "<" if mean < 0 else ">"
    axes.plot(edge, row, marker=marker, markersize=6, color=colour, clip_on=False)
    axes.annotate(
        f"{mean:+.1f}",
        (edge, row),
        xytext=(-9 * away, 2),
        textcoords="offset points",
        ha="left" if mean < 0 else "right",
        va="bottom",
        fontsize=7,
        color=colour,
    )


def _at_left(axes: mpl.axes.Axes) -> mpl.transforms.Transform:
    """Points of the axis, from the left edge of its labels."""
    return mpl.transforms.offset_copy(
        axes.get_yaxis_transform(), axes.figure, x=-4, units="points"
    )


def main() -> None:
    """Draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=Path("docs/results.svg"))
    asked = parser.parse_args()
    lines = read((ROOT / "docs" / "results.md").read_text())
    with mpl.rc_context({"svg.hashsalt": "results", "font.size": 9}):
        draw(lines).savefig(
            asked.figure,
            transparent=True,
            bbox_inches="tight",
            metadata={"Date": None},
        )
    print(f"{asked.figure}: {len(lines)} differences")


if __name__ == "__main__":
    main()
