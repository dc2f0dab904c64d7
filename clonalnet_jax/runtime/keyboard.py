"""Ctrl-C: it ends the process during imports, interrupts the work, and spoils no end.

This imports next to nothing, so that it is ready before anybody can press a key.
"""

import _thread
import functools
import os
import signal
import sys

TYPE_CHECKING = False  # typing takes as long to import as all of this
if TYPE_CHECKING:
    import types
    from collections.abc import Callable

EXIT_INTERRUPTED = 130
"""Exit code after a Ctrl-C: 128 and the number of SIGINT."""

_AT_THE_END = (signal.SIGINT, signal.SIGTERM)
# They take locks in Python code, and an exception between taking one and entering its
# block leaves it taken: the next thread waits for ever.
_LOCKING = (
    "concurrent.futures._base",
    "concurrent.futures.thread",
    "logging",
    "queue",
    "threading",
)
# Where these stand still they can be interrupted.
_WAITING = ("wait", "_wait_for_tstate_lock")


def leave_on_interrupt() -> None:
    """Lets Ctrl-C end the process at once, until `interrupt_raises` is called.

    While libraries are imported, a KeyboardInterrupt would be raised inside of them,
    where some swallow it and others crash. Nothing is open yet that could be lost. Call
    it in the main thread.
    """
    signal.signal(signal.SIGINT, _leave)


def interrupt_raises() -> None:
    """Lets Ctrl-C raise a KeyboardInterrupt where it is heard; a second one leaves.

    Where Python can only report and drop it, as in a callback of the garbage collector,
    it is raised again a moment later.
    """
    report = sys.unraisablehook
    if getattr(report, "func", None) is not _dropped:
        sys.unraisablehook = functools.partial(_dropped, report)
    signal.signal(signal.SIGINT, _raise)


def interrupt_ends_with(code: int) -> None:
    """Lets Ctrl-C or SIGTERM end a process whose work is done with the work's own code.

    Python and its libraries take a moment to end. An interruption there would be told
    as if work had been lost.

    Args:
      code: The exit code.
    """
    for number in _AT_THE_END:
        signal.signal(number, lambda number, frame: os._exit(code))


def ignore_interrupt() -> None:
    """Lets Ctrl-C and SIGTERM do nothing at the very end: what is left takes no time.

    Python gives signals back to the system before libraries are unloaded, but for those
    that are ignored.
    """
    for number in _AT_THE_END:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: "types.FrameType | None") -> None:
    del number, frame
    # Not print: the signal may have come in the middle of one.
    os.write(2, b"\nERROR: Interrupted; the same command starts again.\n")
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: "types.FrameType | None") -> None:
    if frame is not None and _loses(frame):
        # A moment later it is elsewhere. Not threading.Timer, whose start takes a lock
        # that the interrupted code may hold.
        _thread.start_new_thread(_interrupt_soon, (_thread.get_ident(),))
        return
    signal.signal(number, _leave)  # who asks twice does not want to wait
    signal.default_int_handler(number, frame)


def _dropped(
    report: "Callable[[sys.UnraisableHookArgs], object]",
    unraisable: "sys.UnraisableHookArgs",
) -> None:
    """Takes the place of `sys.unraisablehook`, which is `report`."""
    if unraisable.exc_type is not KeyboardInterrupt:
        report(unraisable)
        return
    signal.signal(signal.SIGINT, _raise)  # This was not the second one.
    _thread.start_new_thread(_interrupt_soon, (_thread.get_ident(),))


def _loses(frame: "types.FrameType") -> bool:
    """Says whether Python drops what is raised here, or keeps a lock for ever."""
    name = frame.f_code.co_name
    if name in ("_xla_gc_callback", "__del__"):
        return True
    return frame.f_globals.get("__name__") in _LOCKING and name not in _WAITING


def _interrupt_soon(main_thread: int) -> None:
    import time

    time.sleep(0.02)
    if hasattr(signal, "pthread_kill"):
        # Unlike interrupt_main, this wakes a thread that sleeps or reads.
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        _thread.interrupt_main()
