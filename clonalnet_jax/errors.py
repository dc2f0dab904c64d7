"""The one exception that a user is meant to read, and text that is safe to show.

Names of classes, files and tensors are other people's: they may hold what steers a
terminal, breaks a page or is run by a spreadsheet. `displayable`, `displayable_lines`
and `csv_cell` are the one place that makes such text safe.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Something that the user can mend; its text is all that the program prints.

    Args:
      culprit: The config key, file or value at fault.
      got: Description of what was seen.
      expected: Description of what would have been right.
      remedy: The next thing to do.
    """

    exit_code = 2
    """Exit code of the program."""

    def __init__(self, culprit: str, *, got: str, expected: str, remedy: str) -> None:
        """See the class."""
        super().__init__(
            f"{_field(culprit, 2)}\n  got:      {_field(got)}\n"
            f"  expected: {_field(expected)}\n  try:      {_field(remedy)}"
        )
        self.culprit = culprit
        self.got, self.expected, self.remedy = got, expected, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it come back from a worker process."""
        fields = {"got": self.got, "expected": self.expected, "remedy": self.remedy}
        return functools.partial(type(self), self.culprit, **fields), ()

    def _render_traceback_(self) -> list[str]:
        """Shows a notebook the message alone: IPython asks for this by its name."""
        return [f"{type(self).__name__}: {self}"]

    def about(self, culprit: str) -> "UserError":
        """Returns the same error about what the user knows by another name."""
        return UserError(
            culprit, got=self.got, expected=self.expected, remedy=self.remedy
        )


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Makes an error about a name that is not known; it suggests the nearest one.

    Args:
      what: The key or thing that was named.
      name: The name as given.
      known: All names there are.

    Returns:
      The error, to be raised by the caller.
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return UserError(
        what,
        got=repr(name),
        expected=", ".join(known) or "nothing: there is none",
        remedy=f"did you mean {close[0]!r}?" if close else "choose one of these",
    )


# Control characters of the terminal (C0, delete, C1), marks that turn the direction of
# what follows, separators of lines, and what no UTF-8 file or XML page may hold.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_FIELD = 4000  # The characters of a message's field: more than a screen holds.
# A spreadsheet takes a cell that begins so for a formula, and may run it.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def displayable(text: object, *, limit: int | None = 200) -> str:
    r"""Makes one name safe to show on one line: in a terminal, a page or a figure.

    Control characters, line breaks, marks that turn the direction of writing and
    halves of surrogate pairs become escapes such as `\x1b`. A byte of a file name
    that is not UTF-8 becomes `\xff`. Everything else stays, in every script.

    Args:
      text: The name, or anything whose `str` is to be shown.
      limit: The greatest length in characters. A longer text loses its middle, and
        says how long it was. None keeps any length.

    Returns:
      The text, printable, of a single line. It is the same text where nothing was
      wrong with it.
    """
    return _cut(_UNSAFE.sub(_escape, str(text)), limit)


def displayable_lines(text: object, *, limit: int | None = None) -> str:
    """Makes a text of several lines safe to show; see `displayable`.

    Args:
      text: The text, whose line breaks stay.
      limit: The greatest length of the whole text in characters; None keeps any.

    Returns:
      The text, each of its lines printable.
    """
    lines = (displayable(line, limit=None) for line in str(text).split("\n"))
    return _cut("\n".join(lines), limit)


def csv_cell(name: str) -> str:
    """Makes a name safe for a cell of a CSV file that a spreadsheet opens.

    A cell that begins with a formula's sign gets an apostrophe in front, as OWASP
    recommends ("CSV injection"). It is meant for names: -0.5 as a number is no formula.

    Args:
      name: The text of the cell.

    Returns:
      The text, of which no spreadsheet makes a formula.
    """
    shown = displayable(name, limit=None)
    return f"'{shown}" if name.lstrip(" ").startswith(_FORMULA) else shown


def _field(text: str, indent: int = 12) -> str:
    """A field of a message, whose further lines cannot pass for fields."""
    return displayable_lines(text, limit=_FIELD).replace("\n", "\n" + " " * indent)


def _cut(text: str, limit: int | None) -> str:
    """The two ends of a text that is longer than the limit, and how long it was."""
    if limit is None or len(text) <= limit:
        return text
    middle = f"… ({len(text):,} characters) …"
    kept = max(2, limit - len(middle)) // 2
    return text[:kept] + middle + text[-kept:]


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
