"""Names of classes in pictures, in whatever script they are written."""

import functools
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from PIL import ImageDraw, ImageFont

_SIZE = 14  # pixels


def draw_caption(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, width: float
) -> None:
    """Writes a line of text, shortened where it is too long.

    The font is the first that has all of the characters: DejaVu Sans, which Matplotlib
    brings (Latin, Greek, Cyrillic, Arabic), or one that is installed. Characters that
    none of them has, and such as break a line, are written as Python escapes them.

    Args:
      draw: The picture to write into.
      place: The left upper corner, `(x, y)` in pixels.
      text: The text.
      width: The space that there is, in pixels.
    """
    text, font = choose_font(text)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(f"{text}...", font) > width:
            text = text[:-1]
        text = f"{text}..."
    draw.text(place, text, "black", font)


def choose_font(text: str) -> tuple[str, ImageFont.FreeTypeFont]:
    """Finds a font for a text.

    Args:
      text: The text.

    Returns:
      The text as it can be written, and the font to write it with.
    """
    text = "".join(c if c.isprintable() else _escape(c) for c in text)
    for path in _fonts():
        if _characters(path).issuperset(map(ord, text)):
            return text, ImageFont.truetype(path, _SIZE)
        if text.isascii():
            break
    default = next(_fonts())
    known = _characters(default)
    text = "".join(c if ord(c) in known else _escape(c) for c in text)
    return text, ImageFont.truetype(default, _SIZE)


def _fonts() -> Iterator[str]:
    """Files of fonts: the default, then all that are installed."""
    yield str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    from matplotlib import font_manager  # looks for them all, which takes a second

    for font in font_manager.fontManager.ttflist:
        # It has an empty box for every character there is.
        if "LastResort" not in font.fname and Path(font.fname).exists():
            yield font.fname


@functools.cache
def _characters(path: str) -> frozenset[int]:
    from matplotlib import ft2font

    return frozenset(ft2font.FT2Font(path).get_charmap())


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
