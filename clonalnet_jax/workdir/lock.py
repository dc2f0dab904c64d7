"""One run at a time in a workdir."""

import contextlib
import datetime
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import jax

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.processes import agreed


@contextlib.contextmanager
def hold(workdir: Path, *, warn: Callable[[str], None]) -> Iterator[None]:
    """Keeps a workdir to this run, for as long as the context lasts.

    The lock is the kernel's and dies with the process, whatever kills it; the file
    says whose it is. It is held by the first process for all of them.

    Args:
      workdir: made where it is not there.
      warn: told of a lock that is stale, or of a file system that has none.

    Raises:
      UserError: another run works in it.
    """
    owner, file = None, None
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("a+")
        owner = _lock(file, warn)
    try:
        if not agreed(owner is None):
            raise UserError(
                f"workdir {workdir}",
                got=f"in use by {owner or 'another run'}",
                expected="one run at a time",
                remedy="wait for it, stop it, or choose another --workdir",
            )
        yield
    finally:
        if file is not None:
            if owner is None:
                file.truncate(0)
            file.close()


def _lock(file: IO[str], warn: Callable[[str], None]) -> str | None:
    """Locks an open file and signs it; whose it is already, if it is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read().strip() or "another process"
    except OSError as error:
        # File systems without locks, such as some that lie on object stores.
        warn(f"{file.name} cannot be locked: {error.strerror}")
    file.seek(0)
    if last := file.read().strip():
        warn(f"the lock of {last} is stale: that process is gone; going on")
    file.truncate(0)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    user = os.environ.get("USER", os.getuid())
    file.write(f"{user}, process {os.getpid()} on {socket.gethostname()} since {now}\n")
    file.flush()
    return None
