"""Digests of a checkpoint's files, so that damage is known before anything is read.

They are kept twice: in `digests.json` beside the files, and in the ledger of the run
(see `ledger`), which says as well of which checkpoints digests are still to come. So a
checkpoint whose digests were lost is told from one that was killed before it had any.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.files import read_json, write_atomically
from clonalnet_jax.workdir.ledger import read_ledger, write_ledger

_DIGESTS = "digests.json"
# What Orbax reads as JSON, before and beside the arrays.
_JSON_FILES = ("_CHECKPOINT_METADATA", "meta/metadata", "metrics/metrics")


class DamagedCheckpoint(UserError):  # noqa: N818 (one name for the user and the code)
    """The files of a checkpoint are not those that were saved."""


def expect(directory: Path, step: int) -> None:
    """Notes that a step is about to be saved, and has no digests until it is sealed.

    Args:
      directory: The directory of the run.
      step: The step.
    """
    write_ledger(directory, {**(read_ledger(directory) or {}), str(step): None})


def seal(directory: Path, steps: Iterable[int]) -> None:
    """Writes both records of every checkpoint that lacks one.

    Args:
      directory: The directory of a run.
      steps: All its steps. They are saved whole, and what is sealed is verified.
    """
    before = read_ledger(directory)
    entries = {}
    for name in map(str, steps):
        folder = directory / name
        known = _sealed(folder) or _digests(folder)
        if not _is_beside(folder, known):
            write_atomically(folder / _DIGESTS, json.dumps(known))
        entries[name] = known
    if entries != (before or {}):
        write_ledger(directory, entries)


def verify(folder: Path) -> None:
    """Compares a checkpoint's files with its digests.

    Args:
      folder: The folder of one step. Of one that was killed before it was sealed, the
        small files are looked at alone.

    Raises:
      DamagedCheckpoint: A file is missing or is not what was saved.
    """
    expected = _sealed(folder)
    if expected is None:
        _check_unsealed(folder)
        return
    try:
        found = _digests(folder)
    except OSError as error:
        raise _damaged(folder, str(error)) from error
    for name in expected:
        if name not in found:
            raise _damaged(folder, f"{name} is missing")
        if found[name] != expected[name]:
            raise _damaged(folder, f"{name} is not what was saved")


def _sealed(folder: Path) -> dict[str, str] | None:
    """The digests of a checkpoint by either record; None of one not sealed yet."""
    entries = read_ledger(folder.parent)
    known = (entries or {}).get(folder.name)
    if known is not None:
        return known
    try:
        beside = _read_beside(folder)
    except (UserError, OSError) as error:
        raise _damaged(folder, f"{_DIGESTS} cannot be read") from error
    if beside is not None:
        return beside
    pending = folder.name in entries if entries else _may_lack_digests(folder)
    if not pending:
        raise _damaged(folder, f"{_DIGESTS} is missing")
    return None


def _read_beside(folder: Path) -> dict[str, str] | None:
    content = read_json(folder / _DIGESTS, None)
    if content is not None and not content:
        raise _damaged(folder, f"{_DIGESTS} is empty")
    return content


def _is_beside(folder: Path, known: dict[str, str]) -> bool:
    try:
        return _read_beside(folder) == known
    except UserError:
        return False


def _may_lack_digests(folder: Path) -> bool:
    """Whether a version without a ledger may have been killed before it sealed this.

    It sealed each step before it saved the next, and the last before its figures.
    """
    later = [p for p in folder.parent.iterdir() if p.name.isdecimal()]
    if any(int(p.name) > int(folder.name) for p in later):
        return False
    results = read_json(folder.parent.parent / "results.json", {})
    return folder.parent.name not in results


def _check_unsealed(folder: Path) -> None:
    for name in _JSON_FILES:
        try:
            read_json(folder / name, {})
        except (UserError, OSError) as error:
            raise _damaged(folder, f"{name} cannot be read") from error


def _damaged(folder: Path, what: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"damaged checkpoint {folder}",
        got=what,
        expected="the files as they were saved",
        remedy="copy it again from where it came, or start --mode=train, which moves "
        "it aside and goes on from the checkpoint before it",
    )


def _digests(folder: Path) -> dict[str, Any]:
    """BLAKE2 digest of every file below a folder, by its relative name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _DIGESTS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
