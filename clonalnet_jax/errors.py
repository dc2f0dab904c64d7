"""The one exception that a user is meant to read, with text that is safe to print."""

import difflib
import functools
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
            f"{printable(culprit)}\n  got:      {printable(got)}\n"
            f"  expected: {printable(expected)}\n  try:      {printable(remedy)}"
        )
        self.culprit = culprit
        self._rest = {"got": got, "expected": expected, "remedy": remedy}

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it come back from a worker process."""
        return functools.partial(type(self), self.culprit, **self._rest), ()


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


def printable(text: str, limit: int = 2000) -> str:
    """Makes text that others wrote, such as names of files, safe to print.

    Args:
      text: Any text.
      limit: Number of characters from which on the middle is left out.

    Returns:
      The text with control characters, which a terminal would obey, as the escapes
      that Python writes. Line breaks and tabs stay.
    """
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} ... {len(text) - 2 * half} more ... {text[-half:]}"
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )
