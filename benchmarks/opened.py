"""What a piece of a program opens, by the interpreter's own account."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def opened_below(directory: Path) -> Iterator[set[Path]]:
    """Collects what Python opens below a directory, relative to it."""
    opened: set[Path] = set()
    _listeners.append((directory, opened))
    try:
        yield opened
    finally:
        _listeners.clear()


_listeners: list[tuple[Path, set[Path]]] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listeners and isinstance(arguments[0], str | Path):
        directory, opened = _listeners[-1]
        path = Path(arguments[0])
        if path.is_relative_to(directory):
            opened.add(path.relative_to(directory))


sys.addaudithook(_listen)
