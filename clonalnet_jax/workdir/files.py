"""Small files: every write is atomic, and every read says what is wrong."""

import json
import os
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError


def read_json(path: Path, default: Any) -> Any:
    """Parses a file of ours.

    Args:
      path: the file.
      default: returned where there is no such file.

    Returns:
      Its content.

    Raises:
      UserError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise UserError(
            str(path),
            got=f"not JSON: {error}",
            expected="the file as this program wrote it",
            remedy="restore it, or delete it; the checkpoints do not depend on it",
        ) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's values by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
