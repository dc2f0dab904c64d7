"""Makes equal functions the same function, so that JAX traces and compiles it once.

JAX remembers its programs by the identity of the function that it traced. Baseline,
clone and every seed of a comparison have their networks initialised, evaluated and
trained by functions that are made anew, of equal arguments.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# As many as the methods of a comparison. Each keeps its programs in memory.
_KEPT = 16

_forget: list[Callable[[], None]] = []


def made_once(make: Callable[P, R]) -> Callable[P, R]:
    """Lets a maker of pure functions return the last ones that it made, if they are it.

    Args:
      make: The maker. What it returns must depend on its arguments alone, and hold no
        arrays, which would stay in memory with it.

    Returns:
      The maker, which makes anew what has an argument that cannot be hashed, such as a
      network that holds arrays.
    """
    remembering = functools.lru_cache(_KEPT, typed=True)(make)
    _forget.append(remembering.cache_clear)

    @functools.wraps(make)
    def maker(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            hash((*args, *kwargs.values()))
        except TypeError:
            return make(*args, **kwargs)
        return remembering(*args, **kwargs)  # type: ignore[arg-type]

    return maker


def forget() -> None:
    """Has everything made anew.

    To be called where code of the user's may have changed since, as between the cells
    of a notebook: what a network or a loss calls is no argument of it.
    """
    for clear in _forget:
        clear()
