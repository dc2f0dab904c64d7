"""The page, filled with names that would break it."""

from html.parser import HTMLParser

import pytest

from clonalnet_jax.errors import displayable
from clonalnet_jax.report.gallery import Exhibit, Gallery, Opinion
from clonalnet_jax.report.page import (
    Column,
    Headline,
    Picture,
    Table,
    Tile,
    render_page,
)
from clonalnet_jax.report.rendering import Rendered

URI = "data:image/webp;base64," + "A" * 10_000
NAMES = (
    "\x1b[31mred\x07",
    "null\x00",
    "two\r\nlines",
    "gnp\u202egpj",
    "half\ud800",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "{{ 7 * 7 }}",
    "begin" + "x" * 5_000_000,
)


class Seen(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """Keeps a tag and its attributes."""
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        """Keeps a text."""
        self.texts.append(data)


def page_of(name):
    """A page that shows a name wherever it shows a text."""
    table = Table(name, (Column(name), Column(name, number=False)), [(name, name)])
    picture = Picture(Rendered(b"<svg/>" * 2000, b"<svg/>"), name, name)
    answer = Opinion(name, 99.0, URI)
    gallery = Gallery(1, [Exhibit(7, name, URI, answer, answer)])
    return render_page(
        title=name,
        subtitle=name,
        headline=Headline(
            name, [Tile(name, name, name)], [name], [table], picture, name
        ),
        curves=[picture],
        confusion={
            "summary": name,
            "pairs_figure": picture,
            "pairs": table,
            "matrices": [picture],
            "gains": picture,
            "groups": [(name, name)],
            "classes": table,
        },
        calibration={
            "summary": name,
            "diagrams": [picture],
            "table": table,
            "risk": picture,
        },
        least_side=16,
        mended=gallery,
        broken=Gallery(0, []),
        reproduce={"commands": [name, name], "environment": table, "config": table},
        version=name,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_wherever_it_stands(name):
    page = page_of(name)
    seen, harmless = Seen(page), Seen(page_of("cat"))
    assert seen.tags == harmless.tags
    assert [key for key, _ in seen.attributes] == [k for k, _ in harmless.attributes]
    assert page.encode().decode() == page
    assert not {c for c in page if ord(c) < 32} - {"\n"}
    assert not set("\x7f\u202e\u2028") & set(page)
    assert len(page) < 1e6
    shown = displayable(name, limit=4000)
    assert sum(shown in text for text in seen.texts) > 20
    assert dict(seen.attributes)["alt"].endswith(shown)


def test_what_is_long_by_nature_is_shown_whole():
    page = page_of("cat")
    assert f'src="{URI}"' in page
    assert "cat\ncat\n</code></pre>" in page
