"""The one exception that a user of the program is meant to read."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user can mend; its text is all that `main.py` prints.

    Args:
      culprit: what is wrong: the config key, file or value at fault.
      got: what was seen.
      expected: what would have been right.
      remedy: what to do next.
    """

    def __init__(self, culprit: str, *, got: str, expected: str, remedy: str) -> None:
        """See the class."""
        super().__init__(
            f"{culprit}\n  got:      {got}\n"
            f"  expected: {expected}\n  try:      {remedy}"
        )
        self.culprit = culprit


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """An error about a name that is not known; it suggests the nearest one.

    Args:
      what: the key or thing that was named.
      name: the name as given.
      known: all names there are.

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
