"""Digests of a checkpoint's files, so that damage is known before anything is read."""

import hashlib
import json
from pathlib import Path

from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.directory import write_atomically

_DIGESTS = "digests.json"


class DamagedCheckpoint(UserError):  # noqa: N818 (one name for the user and the code)
    """The files of a checkpoint are not those that were saved."""


def seal(folder: Path) -> None:
    """Writes the digests of a checkpoint that is saved whole and has none yet."""
    if not (folder / _DIGESTS).exists():
        write_atomically(folder / _DIGESTS, json.dumps(_digests(folder)))


def verify(folder: Path) -> None:
    """Compares a checkpoint's files with its digests.

    Args:
      folder: of one step; without digests (killed before sealing) nothing is known.

    Raises:
      DamagedCheckpoint: a file is missing or is not what was saved.
    """
    sealed = folder / _DIGESTS
    if not sealed.exists():
        return
    try:
        expected, found = json.loads(sealed.read_text()), _digests(folder)
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{sealed.name}: {error}") from error
    for name in expected:
        if name not in found:
            raise _damaged(folder, f"{name} is missing")
        if found[name] != expected[name]:
            raise _damaged(folder, f"{name} is not what was saved")


def _damaged(folder: Path, what: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"damaged checkpoint {folder}",
        got=what,
        expected="the files as they were saved",
        remedy="copy it again from where it came, or delete that folder to use the "
        "checkpoint before it",
    )


def _digests(folder: Path) -> dict[str, str]:
    """BLAKE2 digest of every file below a folder, by its relative name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _DIGESTS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
