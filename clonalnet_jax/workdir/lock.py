"""One run at a time in a workdir."""

import contextlib
import datetime
import errno
import getpass
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import jax

from clonalnet_jax.errors import UserError, displayable
from clonalnet_jax.runtime.processes import agreed

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


@contextlib.contextmanager
def hold(workdir: Path, *, warn: Callable[[str], None]) -> Iterator[None]:
    """Keeps a workdir to this run, for as long as the context lasts.

    The lock is the kernel's and dies with the process, whatever kills it. Beside the
    file `lock`, which is locked and empty, `lock.owner` says whose the lock is. It is
    held by the first process for all of them.

    Args:
      workdir: Directory to keep; made where it is not there.
      warn: Function that is told of a lock that is stale, or of a file system that has
        none.

    Raises:
      UserError: Another run works in it, or the files of the lock are none of ours.
    """
    lock, owner = None, None
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        lock, owner = _acquire(workdir, warn)
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
        if lock is not None and owner is None:
            (workdir / "lock.owner").unlink(missing_ok=True)
            lock.release()


def _acquire(
    workdir: Path, warn: Callable[[str], None]
) -> tuple[filelock.BaseFileLock, str | None]:
    """Takes the lock and signs it, or finds out whose it is already."""
    lock = filelock.FileLock(workdir / "lock")
    signature = workdir / "lock.owner"
    try:
        lock.acquire(timeout=0)
    except (filelock.Timeout, RuntimeError):  # of another process, or of this one
        return lock, _read(signature) or "another process"
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(workdir / "lock") from error
        if error.errno not in _NO_LOCKS:
            raise
        # File systems without locks, such as some that lie on object stores.
        warn(f"{workdir / 'lock'} cannot be locked: {error.strerror}")
    if last := _read(signature):
        warn(f"the lock of {last} is stale: that process is gone; going on")
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    _write(
        signature,
        f"{_user()}, process {os.getpid()} on {socket.gethostname()} since {now}\n",
    )
    return lock, None


def _read(signature: Path) -> str:
    """Reads whose the lock is; of a link, which is none of ours, nothing."""
    try:
        file = os.open(signature, os.O_RDONLY | _NO_LINK)
    except OSError:
        return ""
    with open(file, encoding="utf-8", errors="replace") as opened:
        return displayable(opened.read(500).strip())


def _write(signature: Path, text: str) -> None:
    """Writes a new file in place of what has the name, which may be a link."""
    signature.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
    with open(os.open(signature, flags, 0o666), "w", encoding="utf-8") as opened:
        opened.write(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "someone"


def _link(path: Path) -> UserError:
    return UserError(
        str(path),
        got="a symbolic link",
        expected="a file of this program, or none",
        remedy="remove the link, and look at who made it",
    )
