"""Compiled programs that are kept in a workdir, and trusted only where they are whole.

JAX writes each file in place and never again. One that a kill or a disk has damaged
would be compiled anew at every start; one that its compression does not check (that of
Python 3.14 does not) would be run.
"""

import zlib
from pathlib import Path

from clonalnet_jax.workdir.ledger import digest_of, read_ledger, write_ledger

_PROGRAMS = "*-cache"


def drop_damaged(directory: Path) -> None:
    """Deletes the programs that are not as they were written.

    Args:
      directory: The directory of the programs. Of those that `seal` does not know, as
        after a kill, the ones whose own checksum is right are kept.
    """
    known = read_ledger(directory) or {}
    for path in directory.glob(_PROGRAMS):
        if not _is_whole(path.read_bytes(), known.get(path.name)):
            path.unlink(missing_ok=True)


def seal(directory: Path) -> None:
    """Keeps the digests of the programs that are there.

    Args:
      directory: The directory of the programs; nothing happens where it is not there.
    """
    if directory.is_dir():
        found = sorted(directory.glob(_PROGRAMS))
        entries = {path.name: digest_of(path.read_bytes()) for path in found}
        if entries != read_ledger(directory):
            write_ledger(directory, entries)


def _is_whole(content: bytes, digest: str | None) -> bool:
    if digest is not None:
        return digest_of(content) == digest
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True
