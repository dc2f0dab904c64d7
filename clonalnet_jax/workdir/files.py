"""Small files: every write is atomic, and every read says what is wrong."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from clonalnet_jax.errors import UserError

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
REMAKE = "restore it, or delete it; the checkpoints do not depend on it"


def read_json(
    path: Path, default: Any, *, kind: type = dict, remedy: str = REMAKE
) -> Any:
    """Parses a file of ours.

    Args:
      path: The file.
      default: The value to return where there is no such file.
      kind: The type that the whole content must have: `dict` or `list`.
      remedy: The advice to give where the content is wrong.

    Returns:
      The content of the file.

    Raises:
      UserError: The file is not JSON, or is JSON of another kind.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return default
    except (ValueError, RecursionError) as error:
        raise wrong_file(path, f"not JSON: {error}", remedy=remedy) from error
    if not isinstance(content, kind):
        got = f"JSON, but {describe_kind(content)} instead of {_NAMES[kind]}"
        raise wrong_file(path, got, remedy=remedy)
    return content


def describe_kind(content: Any) -> str:
    """Names the kind of a JSON value, such as "a list"."""
    if content is None:
        return "null"
    return _NAMES.get(type(content), "a number")


def wrong_file(path: Path, got: str, *, remedy: str = REMAKE) -> UserError:
    """Returns the error about a file that is not as this program wrote it."""
    return UserError(
        str(path), got=got, expected="the file as this program wrote it", remedy=remedy
    )


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old or the new one.

    The file gets the permissions that the umask leaves. Nothing else is left behind
    where the write fails.

    Args:
      path: The file, which is replaced where it is there.
      content: The new content; text is encoded as UTF-8.

    Raises:
      OSError: The file cannot be written; the error names it.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a new file that takes the place of another once it is written whole.

    Args:
      path: The file to replace, or to make.

    Yields:
      The new file, open for writing.

    Raises:
      OSError: The file cannot be written; the error names it.
    """
    temporary = temporary_beside(path)
    try:
        # O_EXCL never opens what is there already, and so follows no planted link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # gone already where all went well


def temporary_beside(path: Path) -> Path:
    """Returns a hidden name in the same directory that nothing has and none guesses."""
    return path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.tmp")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a config's values by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
