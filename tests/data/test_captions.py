"""Names of classes in pictures."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clonalnet_jax.data import captions
from clonalnet_jax.data.captions import choose_font, draw_caption


def written(text, width=300):
    """The ink of a caption, bool `[h, w]`."""
    sheet = Image.new("L", (400, 20), "white")
    draw_caption(ImageDraw.Draw(sheet), (4, 2), text, width)
    return np.asarray(sheet) < 128


@pytest.mark.parametrize("name", ["cat", "собака", "عصفور", "naïve", "Αθήνα"])
def test_a_script_that_the_font_has_is_written_as_it_is(name):
    text, font = choose_font(name)
    assert text == name
    box = Image.new("L", (40, 20), "white")
    ImageDraw.Draw(box).text((4, 2), chr(0x10FFFF), "black", font)  # a missing glyph
    assert written(name).sum() > 20
    assert {written(c).tobytes() for c in name} != {(np.asarray(box) < 128).tobytes()}


def test_an_installed_font_is_used_for_what_the_first_lacks(monkeypatch):
    first, other = "first.ttf", next(captions._fonts())
    has = {first: frozenset(map(ord, "abc")), other: frozenset(map(ord, "猫abc"))}
    monkeypatch.setattr(captions, "_fonts", lambda: iter([first, other]))
    monkeypatch.setattr(captions, "_characters", has.__getitem__)
    text, font = choose_font("猫")
    assert (text, font.path) == ("猫", other)


def test_characters_that_no_font_has_are_escaped(monkeypatch):
    default = next(captions._fonts())
    monkeypatch.setattr(captions, "_fonts", lambda: iter([default]))
    assert choose_font("a 猫")[0] == "a \\u732b"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("two\nlines", "two\\nlines"), ("\x1b[31m", "\\x1b[31m"), ("\udcef", "\\udcef")],
)
def test_a_caption_has_one_line_and_no_control_characters(name, expected):
    assert choose_font(name)[0] == expected


def test_a_long_name_ends_in_dots_within_its_space():
    ink = written("a" * 5000, width=120)
    assert 60 < np.flatnonzero(ink.any(axis=0)).max() <= 124
    assert written("a" * 5, width=120).sum() == written("a" * 5).sum()
