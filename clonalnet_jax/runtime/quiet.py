"""Silences libraries that would bury the one message that a user should read."""

import logging
import os
import sys
from typing import Any

from absl import logging as absl_logging


def quieten() -> None:
    """Silences what libraries print besides raising it; call it before JAX starts.

    Orbax logs a stack trace, often several, of every error that it also raises. When
    a read or write fails, TensorStore's other operations come back to an event loop
    that is gone by then, and each prints a traceback from a thread of its own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's start-up chatter
    absl_logging.set_verbosity(absl_logging.WARNING)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).disabled = True
    report = sys.unraisablehook

    def unraisablehook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = unraisablehook
