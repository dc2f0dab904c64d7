"""Stops a run: when a scheduler asks for it, or when no step has finished for long.

A request to stop is only remembered. The next poll answers it, where every process of
the run is at the same step. Like signals, the request belongs to the whole process.
"""

import faulthandler
import os
import signal
import threading
import time
import types

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = 75
"""Exit code after a stop that was asked for: "try again", EX_TEMPFAIL of sysexits.h."""

# Windows has no SIGUSR1.
_SIGUSR1: int | None = getattr(signal, "SIGUSR1", None)
_SIGNALS = (signal.SIGTERM, *([] if _SIGUSR1 is None else [_SIGUSR1]))


class PreemptedError(Exception):
    """The run was asked to stop, and has saved what it had."""


class _Watch:
    """The requests of this process, and the time since when nothing has moved."""

    def __init__(self) -> None:
        self.asked = False
        self.interrupted = False
        self.seconds = 0.0
        self.armed = 0.0
        self.polls = 0


_watch = _Watch()


def listen(*, watchdog_minutes: float = 0.0) -> None:
    """Begins to listen to SIGTERM, SIGUSR1 and SIGINT, and to watch for standstill.

    Call it in the main thread, after `jax.distributed` is up if it is to be. SIGTERM of
    a run of several processes is JAX's, which tells it to all of them.

    Args:
      watchdog_minutes: Minutes without a poll after which the stacks of all threads go
        to standard error and the process exits with code 1; 0 for never.
    """
    _watch.seconds = 60 * watchdog_minutes
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if jax.process_count() == 1:
        for number in _SIGNALS:
            signal.signal(number, _note)
    elif _SIGUSR1 is not None:
        signal.signal(_SIGUSR1, _pass_on)


def poll() -> bool:
    """Says that work has moved on, and asks whether to stop.

    Every process has to call it equally often, for all are given the same answer.

    Returns:
      Whether to save and stop now.

    Raises:
      KeyboardInterrupt: Ctrl-C was pressed, and whoever was given that lost it.
    """
    now = time.monotonic()
    if _watch.seconds and now - _watch.armed > min(1.0, _watch.seconds / 10):
        # A thread is started each time, which is too much for every short step.
        _watch.armed = now
        faulthandler.dump_traceback_later(_watch.seconds, exit=True, file=2)
    return _asked()


def stop_if_asked() -> None:
    """Stops before something long, such as a compilation, where that was asked for.

    Like `poll`, every process has to call it equally often. Standstill is not watched
    for from here on: what follows may take its time.

    Raises:
      PreemptedError: The run was asked to stop; it has nothing to save.
      KeyboardInterrupt: Ctrl-C was pressed, and whoever was given that lost it.
    """
    if _asked():
        raise PreemptedError
    rest()


def rest() -> None:
    """Stops watching for standstill until the next poll: this may take its time."""
    _watch.armed = 0.0
    faulthandler.cancel_dump_traceback_later()


def _asked() -> bool:
    if _watch.interrupted:
        raise KeyboardInterrupt
    if jax.process_count() == 1:
        return _watch.asked
    _watch.polls += 1
    return bool(multihost_utils.reached_preemption_sync_point(_watch.polls))


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    # Raised in a destructor or in a callback of a library, it may go no further. The
    # next poll raises it again.
    _watch.interrupted = True
    signal.default_int_handler(number, frame)


def _note(number: int, frame: types.FrameType | None) -> None:
    del frame
    _watch.asked = True
    signal.signal(
        number, signal.SIG_DFL
    )  # Somebody who asks twice does not want to wait.
    name = signal.Signals(number).name
    # Not print: the signal may have come in the middle of one.
    os.write(2, f"\n{name}: stopping after this step; saving\n".encode())


def _pass_on(number: int, frame: types.FrameType | None) -> None:
    del number, frame
    os.kill(os.getpid(), signal.SIGTERM)
