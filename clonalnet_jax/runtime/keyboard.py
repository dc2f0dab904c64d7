"""Ctrl-C: during the imports it ends the process, later it interrupts the work.

This imports next to nothing, so that it is ready before anybody can press a key.
"""

import _thread
import os
import signal

TYPE_CHECKING = False  # typing takes as long to import as all of this
if TYPE_CHECKING:
    import types

EXIT_INTERRUPTED = 130
"""Exit code after a Ctrl-C: 128 and the number of SIGINT."""


def leave_on_interrupt() -> None:
    """Lets Ctrl-C end the process at once, until `interrupt_raises` is called.

    While libraries are imported, a KeyboardInterrupt would be raised inside of them,
    where some swallow it and others crash. Nothing is open yet that could be lost. Call
    it in the main thread.
    """
    signal.signal(signal.SIGINT, _leave)


def interrupt_raises() -> None:
    """Lets Ctrl-C raise a KeyboardInterrupt, as it usually does, where it is heard."""
    signal.signal(signal.SIGINT, _raise)


def _leave(number: int, frame: "types.FrameType | None") -> None:
    del number, frame
    # Not print: the signal may have come in the middle of one.
    os.write(2, b"\nERROR: Interrupted; the same command starts again.\n")
    os._exit(EXIT_INTERRUPTED)


def _raise(number: int, frame: "types.FrameType | None") -> None:
    if frame is not None and frame.f_code.co_name in ("_xla_gc_callback", "__del__"):
        # Python drops what is raised in these: once more, a moment later.
        import threading

        threading.Timer(0.02, _thread.interrupt_main).start()
        return
    signal.default_int_handler(number, frame)
