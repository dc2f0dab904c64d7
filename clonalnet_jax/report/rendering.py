"""Figures for light and dark pages and for papers, without any global state.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind eyes; on
white, their orange is darker and their yellow and sky blue are left out.
"""

import csv
import dataclasses
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from clonalnet_jax.errors import csv_cell


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a page.

    Attributes:
      text: Colour of titles and labels.
      grid: Colour of thin lines.
      baseline: Colour of the baseline, and of everything that got worse.
      clone: Colour of the clone, and of everything that got better.
      others: Colours of further runs.
      ramp: Colours from nothing to the most.
    """

    text: str
    grid: str
    baseline: str
    clone: str
    others: tuple[str, ...]
    ramp: tuple[str, ...]

    def colour(self, run: str, clone: str, position: int) -> str:
        """The colour of a run: the baseline's, the clone's, or one by position."""
        if run in ("baseline", clone):
            return self.baseline if run == "baseline" else self.clone
        return self.others[position % len(self.others)]

    @property
    def colormap(self) -> Colormap:
        """`ramp` as a colour map."""
        return LinearSegmentedColormap.from_list("ramp", self.ramp)


LIGHT = Theme(
    text="#1f2328",
    grid="#d1d9e0",
    baseline="#D55E00",
    clone="#0072B2",
    others=("#009E73", "#CC79A7", "#B8860B", "#1f2328", "#59636e"),
    ramp=("#f6f8fa", "#56B4E9", "#0072B2", "#00304d"),
)
DARK = Theme(
    text="#e6edf3",
    grid="#3d444d",
    baseline="#E69F00",
    clone="#56B4E9",
    others=("#009E73", "#CC79A7", "#F0E442", "#e6edf3", "#9198a1"),
    ramp=("#161b22", "#0072B2", "#56B4E9", "#ffffff"),
)

Draw = Callable[[Axes, Theme], None]
"""Draws in the colours of a theme."""


class Drawing(NamedTuple):
    """A figure, and the numbers that it shows.

    Attributes:
      draw: The function that draws it.
      headings: Names of the columns.
      rows: Names and numbers, as many in a row as there are columns.
    """

    draw: Draw
    headings: Sequence[str]
    rows: Sequence[Sequence[str | float]]


class Rendered(NamedTuple):
    """A figure for a page.

    Attributes:
      light: SVG for a light page, without background.
      dark: SVG for a dark one.
      name: Name of the files beside the page, without suffix; empty where there are
        none.
    """

    light: bytes
    dark: bytes
    name: str = ""


def render(
    drawing: Drawing,
    path: Path,
    *,
    size: tuple[float, float] = (4.6, 3.2),
) -> Rendered:
    """Draws a figure for both themes; saves the light one, and its numbers, for papers.

    Args:
      drawing: The figure.
      path: Path without suffix; `.svg`, `.png` (300 dpi on white) and `.csv` are
        written.
      size: Width and height in inches.

    Returns:
      The figure.
    """
    light, pixels = _export(drawing.draw, LIGHT, size, "svg", "png")
    (dark,) = _export(drawing.draw, DARK, size, "svg")
    path.with_suffix(".svg").write_bytes(light)
    path.with_suffix(".png").write_bytes(pixels)
    # The names of what is in it may not be of the system's encoding.
    with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(map(_cell, drawing.headings))
        rows.writerows(map(_cell, row) for row in drawing.rows)
    return Rendered(light, dark, path.name)


def _cell(value: str | float) -> str | float:
    return csv_cell(value) if isinstance(value, str) else value


def _export(
    draw: Draw, theme: Theme, size: tuple[float, float], *formats: str
) -> list[bytes]:
    """Draws once, saves in each format: SVG without background, PNG on white."""
    # Text and ticks are made as late as while saving, and look at the settings then.
    with mpl.rc_context(_settings(theme)), warnings.catch_warnings():
        # Names in scripts that Matplotlib's font lacks; the page itself has them.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        FigureCanvasAgg(figure)
        draw(figure.subplots(subplot_kw={"facecolor": "none"}), theme)
        return [_save(figure, format) for format in formats]


def _save(figure: Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    if format == "svg":
        # The same figure is the same file.
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    else:
        figure.savefig(buffer, format=format, dpi=300, facecolor="white")
    return buffer.getvalue()


def _settings(theme: Theme) -> dict[Any, Any]:
    return {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.text,
        "axes.titlecolor": theme.text,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        "text.color": theme.text,
        "text.parse_math": False,  # a class may be called $x$
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "legend.fontsize": 9,
        "svg.hashsalt": "clonalnet",
    }
