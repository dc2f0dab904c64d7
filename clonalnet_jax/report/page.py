"""The page: a template that escapes whatever it is given, filled in."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from clonalnet_jax.errors import displayable
from clonalnet_jax.report.rendering import Rendered

_LONGEST = 4000  # characters of a text that is shown: more than any of our own has


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      title: Its heading.
      number: Whether it holds numbers, which stand flush right.
      signed: Whether their signs say better or worse.
    """

    title: str
    number: bool = True
    signed: bool = False


class Table(NamedTuple):
    """A table, ready to be shown.

    Attributes:
      caption: Caption that says the content.
      columns: The columns; the first names the rows.
      rows: Rows, each with as many cells as there are columns.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A figure with its words.

    Attributes:
      figure: The figure for both themes.
      caption: The text below it.
      alt: Description for those who cannot see it.
    """

    figure: Rendered
    caption: str
    alt: str


class Tile(NamedTuple):
    """A number that stands out.

    Attributes:
      label: Name of the value.
      value: The value as text.
      note: Basis of the value.
    """

    label: str
    value: str
    note: str


class Headline(NamedTuple):
    """The result at a glance.

    Attributes:
      verdict: A sentence.
      tiles: The numbers behind it.
      caveats: Conclusions that the reader must not draw.
      tables: Tables of all runs.
      figure: Figure of the differences; None for a single seed.
      method: How it was tested, where that takes many words.
    """

    verdict: str
    tiles: list[Tile]
    caveats: list[str]
    tables: list[Table]
    figure: Picture | None
    method: str = ""


def render_page(**content: Any) -> str:
    """Fills in the template.

    Args:
      **content: Everything that `page.html` names; a name that is missing is an error.

    Returns:
      One HTML file that needs nothing else.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg_uri"] = _svg_uri
    environment.filters["whole"] = escape
    return environment.get_template("page.html").render(content)


def _shown(value: Any) -> Any:
    """What stands on the page for a value of the template: markup, or safe text."""
    if isinstance(value, Markup):  # what a macro of the template has made, or `whole`
        return value
    return displayable(value, limit=_LONGEST)


def _svg_uri(svg: bytes) -> Markup:
    return escape(f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}")
