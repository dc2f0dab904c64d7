"""The one exception that a user of the program is meant to read."""

import difflib
import functools
import re
import traceback
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Something that the user can mend; its text is all that `main.py` prints.

    Args:
      culprit: what is wrong: the config key, file or value at fault.
      got: what was seen.
      expected: what would have been right.
      remedy: what to do next.
    """

    exit_code = 2
    """What `main.py` ends with."""

    def __init__(self, culprit: str, *, got: str, expected: str, remedy: str) -> None:
        """See the class."""
        super().__init__(
            f"{culprit}\n  got:      {got}\n"
            f"  expected: {expected}\n  try:      {remedy}"
        )
        self.culprit = culprit
        self._rest = {"got": got, "expected": expected, "remedy": remedy}

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it come back from a worker process."""
        return functools.partial(type(self), self.culprit, **self._rest), ()


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


def explain_flag_error(error: Exception) -> str:
    """Says in a line or two what is wrong with a command line or a config file.

    Args:
      error: raised by absl or ml_collections while they parsed it, or by the config.

    Returns:
      The message, without the library's dump of the whole config.
    """
    text = str(error.args[0]) if error.args else ""
    close = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', text)
    alone = re.fullmatch(r"\W*(\w+)\W*", text) or re.search(
        r'Key "(\w+)" does not exist', text
    )
    if isinstance(error, AttributeError | KeyError) and (close or alone):
        key = close[2] if close else alone and alone[1]
        hint = f"did you mean {close[1]!r}? " if close else ""
        return f"unknown config key {key!r}: {hint}configs/default.py lists every key"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    if isinstance(error, OSError):
        return text.split("failure to load: ")[-1]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    known = type(error).__module__.startswith("absl")
    return text if known else f"config: {type(error).__name__}: {text}{where}"
