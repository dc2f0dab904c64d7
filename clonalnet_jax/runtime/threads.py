"""Work on many items by many threads, which ends when the caller ends."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Gives `function(item)` of each item, computed by as many threads as pay off.

    After an exception, be it a Ctrl-C of the caller, what has not begun never does, and
    nothing is waited for.

    Args:
      function: The work on an item; it may be called by any thread.
      items: The items.

    Yields:
      The results, in the order of the items.
    """
    pool = ThreadPoolExecutor()
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
