"""Switches for the way in which networks are traced, set for the length of a block."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def while_set(switch: contextvars.ContextVar[T], value: T) -> Iterator[None]:
    """Sets a switch inside a block, and as it was before after it.

    Args:
      switch: The switch.
      value: The value that code inside the block finds.

    Yields:
      Nothing.
    """
    token = switch.set(value)
    try:
        yield
    finally:
        switch.reset(token)
