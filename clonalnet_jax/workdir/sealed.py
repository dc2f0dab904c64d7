"""Small files of a workdir whose digests are kept, so that damage is not believed.

The ledger of the workdir (see `ledger`) holds the sizes and digests that each file may
have: of what was written last and, in case a write was cut short, of what was there
before. Files of older versions, which it does not know, are taken as they are.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clonalnet_jax.workdir.files import read_json, write_atomically, wrong_file
from clonalnet_jax.workdir.ledger import digest_of, read_ledger, write_ledger


def write_sealed(workdir: Path, name: str, content: str | bytes) -> None:
    """Replaces a file of a workdir atomically, and keeps its digest.

    Args:
      workdir: The directory with the ledger.
      name: Path of the file below the workdir.
      content: The new content; text is encoded as UTF-8.

    Raises:
      OSError: The file or the ledger cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    entries, path = read_ledger(workdir) or {}, workdir / name
    before = entries.get(name) or ([_seal(path.read_bytes())] if path.exists() else [])
    # Before the file, so that a kill in between leaves one that is known.
    write_ledger(workdir, {**entries, name: [*before[-1:], _seal(content)]})
    write_atomically(path, content)


def seal_log(workdir: Path, name: str) -> None:
    """Keeps the digest of what a log holds by now; more may be appended later.

    Args:
      workdir: The directory with the ledger.
      name: Path of the log below the workdir.
    """
    if (path := workdir / name).exists():
        entries = read_ledger(workdir) or {}
        write_ledger(workdir, {**entries, name: [_seal(path.read_bytes())]})


def is_sealed(workdir: Path, name: str, content: bytes, *, log: bool = False) -> bool:
    """Tells whether a file is as it was written, as far as that is known.

    Args:
      workdir: The directory with the ledger.
      name: Path of the file below the workdir.
      content: The content of the file.
      log: Whether more may have been appended since its digest was kept.

    Returns:
      Whether the content has a digest that the ledger holds, or has none to have.
    """
    known = (read_ledger(workdir) or {}).get(name)
    if known is None:
        return True
    return any(
        digest == digest_of(content[:size]) and (log or size == len(content))
        for size, digest in known
    )


def lost_files(workdir: Path, names: Iterable[str]) -> list[Path]:
    """Lists the files that were written into a workdir once and are not there now.

    Args:
      workdir: The directory with the ledger.
      names: Paths of the files below the workdir.

    Returns:
      The paths of those that are missing.
    """
    entries = read_ledger(workdir) or {}
    paths = (workdir / name for name in names if name in entries)
    return [path for path in paths if not path.exists()]


def read_sealed_json(
    workdir: Path, name: str, default: Any, *, kind: type = dict, remedy: str
) -> Any:
    """Parses a file of a workdir that `write_sealed` wrote.

    Args:
      workdir: The directory with the ledger.
      name: Path of the file below the workdir.
      default: The value to return where there is no such file.
      kind: The type that the whole content must have: `dict` or `list`.
      remedy: The advice to give where the content is wrong.

    Returns:
      The content of the file.

    Raises:
      UserError: The file is not JSON, is JSON of another kind, or was changed.
    """
    path = workdir / name
    content = read_json(path, default, kind=kind, remedy=remedy)
    if path.exists() and not is_sealed(workdir, name, path.read_bytes()):
        raise wrong_file(path, "other bytes than were written", remedy=remedy)
    return content


def _seal(content: bytes) -> list[Any]:
    return [len(content), digest_of(content)]
