"""A second record of what was written, which checks itself.

A ledger is a JSON file `{"entries": {...}, "digest": ...}`. A digest beside the file
that it vouches for can be lost with it or be wrong itself; what stands in a ledger is
known to be right, or is not used.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.files import read_json, write_atomically

NAME = "sealed.json"


def read_ledger(directory: Path) -> dict[str, Any] | None:
    """Reads the ledger of a directory.

    Args:
      directory: The directory that holds it.

    Returns:
      The entries by name; None where there is no ledger, or one that is damaged.
    """
    try:
        content = read_json(directory / NAME, None)
    except (UserError, OSError):
        return None
    if content is None or not isinstance(entries := content.get("entries"), dict):
        return None
    return entries if content.get("digest") == _digest(entries) else None


def write_ledger(directory: Path, entries: dict[str, Any]) -> None:
    """Replaces the ledger of a directory."""
    content = {"entries": entries, "digest": _digest(entries)}
    write_atomically(directory / NAME, json.dumps(content))


def digest_of(content: bytes) -> str:
    """Returns the BLAKE2 digest of some bytes, in 32 hexadecimal digits."""
    return hashlib.blake2b(content).hexdigest()[:32]


def _digest(entries: dict[str, Any]) -> str:
    return digest_of(json.dumps(entries, sort_keys=True).encode())
