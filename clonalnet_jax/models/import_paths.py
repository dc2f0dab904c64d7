"""Names in a config that are import paths, such as `my_package.nets:SmallNet`."""

import importlib
import re
from collections.abc import Callable
from typing import Any

from clonalnet_jax.errors import UserError, unknown_name

FROZEN = "frozen:"
"""How the name of a function begins that a file holds; see `exported`."""

_IDENTIFIERS = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_PATH = re.compile(f"{_IDENTIFIERS}:{_IDENTIFIERS}")


def is_own(name: object) -> bool:
    """Whether a name is an import path, and not one of those that this package has."""
    if is_frozen(name):
        return False
    return isinstance(name, str) and _PATH.fullmatch(name) is not None


def is_frozen(name: object) -> bool:
    """Whether a name is of a file that holds a function, such as `frozen:a/file`."""
    return isinstance(name, str) and name.startswith(FROZEN)


def find_own(name: str, *, what: str, expected: str) -> Callable[..., Any]:
    """Imports what a path names.

    Args:
      name: The path, for which `is_own` is true.
      what: Word for what it is meant to be, such as `model`, for messages.
      expected: Description of what the path should name, for messages.

    Returns:
      A class or function.

    Raises:
      UserError: The module cannot be imported, has no such name, or the name is of
        something that cannot be called.
    """
    module, _, attributes = name.partition(":")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # importing runs somebody else's code
        raise UserError(
            f"{what} {name}",
            got=f"{type(error).__name__}: {error}",
            expected=f"a module {module!r} that Python can import",
            remedy="install its package, or start Python with PYTHONPATH set to the "
            "directory that it lies in",
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute) and module == "__main__":
            raise UserError(
                f"{what} {name}",
                got="nothing of that name here: it was defined in a notebook or script",
                expected="the definition in this session, too",
                remedy=f"run the cell that defines {attribute} first; or put it into a "
                "module, so that every program finds it",
            )
        if not hasattr(found, attribute):
            public = [one for one in vars(found) if not one.startswith("_")]
            raise unknown_name(f"{what} {name}: name in {module}", attribute, public)
        found = getattr(found, attribute)
    if not callable(found):
        raise UserError(
            f"{what} {name}",
            got=f"{type(found).__name__} {found!r}",
            expected=expected,
            remedy="name such a class or function",
        )
    return found
