"""A call in a process of its own, whose end is not that of the program."""

import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class CrashedError(Exception):
    """A process that ended without an answer; the text is how, and its last words."""


def call_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own.

    What the function prints appears as usual. What libraries write to the standard
    error beside it is kept until the end, and dropped if they crash: it then is pages.

    Args:
      function: A function of a module, which the new process imports.
      *arguments: Its arguments, which can be pickled, like what it returns or raises.

    Returns:
      What the function returns.

    Raises:
      Exception: Whatever the function raises; a note has its traceback.
      CrashedError: The process was ended by a signal, such as that of a stack that has
        overflowed, or by a library.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as directory:
        kept = Path(directory) / "stderr"
        process = context.Process(
            target=_call, args=(sending, kept, function, arguments), daemon=True
        )
        # An orderly end takes the other process with it, from its very start.
        previous = signal.signal(signal.SIGTERM, _leave)
        # A Ctrl-C is for this process, which then ends the other.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, interrupt)
        sending.close()
        try:
            succeeded, answer = receiving.recv()
        except EOFError:
            process.join()
            raise CrashedError(_how(process.exitcode, kept)) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
        process.join()
        sys.stderr.write(kept.read_text(errors="replace"))
    if succeeded:
        return answer
    raise answer


def _call(
    sending: Connection,
    kept: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with kept.open("w") as file:
        os.dup2(file.fileno(), 2)
    try:
        answer = True, function(*arguments)
    except Exception as error:
        # A traceback does not travel with its error; a note does.
        error.add_note(traceback.format_exc())
        answer = False, error
    sys.stdout.flush()
    sending.send(answer)


def _leave(number: int, frame: types.FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


def _how(code: int | None, kept: Path) -> str:
    ended = f"exit code {code}"
    if code is not None and code < 0:
        ended = signal.Signals(-code).name
    if ended == "SIGKILL":
        ended += ", as Linux does where memory runs out"
    lines = kept.read_text(errors="replace").splitlines() if kept.exists() else []
    # The C++ libraries of Google mark the line that says what happened.
    told = [line for line in lines if line.startswith("***")] or lines[-1:]
    return f"{ended}: {told[0].strip('* ')}" if told else ended
