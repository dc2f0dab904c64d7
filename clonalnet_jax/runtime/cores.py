"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Counts the cores that this process may use, which a cluster limits.

    Returns:
      Their number. macOS and Windows cannot limit them, so there it is that of the
      machine.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
