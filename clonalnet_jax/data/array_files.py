"""Arrays in NumPy's files: nothing in them is ever executed."""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from clonalnet_jax.errors import UserError

_DIGEST = "digest.txt"
# What NumPy raises of files that are damaged, hostile or of another kind.
_UNREADABLE = (
    EOFError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Reads the arrays of a `.npz` file, or maps those of a folder into memory.

    Args:
      path: The file, or a folder of `.npy` files.

    Returns:
      The arrays, by name.

    Raises:
      UserError: There are none, a file is damaged or holds objects, or what
        `keep_arrays` has written has changed.
    """
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise refusal(
                f"arrays {path}", "a folder without .npy files", "arrays in it"
            )
        arrays = {file.stem: _map(file) for file in files}
        _check_digest(path, arrays)
        return arrays
    if not path.exists():
        raise refusal(
            f"arrays {path}", "no such file or folder", "a .npz file or folder"
        )
    try:
        # NumPy would leave a damaged file open.
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            several = dict(found) if isinstance(found, Mapping) else None
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    if several is None:
        raise refusal(f"arrays {path}", "a single array", "a .npz file or a folder")
    return several


def _map(path: Path) -> np.ndarray:
    try:
        # A pickle would run what its author wrote.
        return cast(np.ndarray, np.load(path, mmap_mode="r", allow_pickle=False))
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def keep_arrays(arrays: Mapping[str, np.ndarray], directory: Path) -> Path:
    """Writes arrays below a directory, unless they are there already.

    Args:
      arrays: The arrays, by name.
      directory: The directory, of any number of data sets.

    Returns:
      The folder of this one, for `config.data.path`.

    Raises:
      UserError: It cannot be written.
    """
    folder = directory / _digest(arrays)
    if folder.exists():
        return folder
    unfinished = directory / f"{folder.name}.{os.getpid()}"
    try:
        unfinished.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", array)
        (unfinished / _DIGEST).write_text(folder.name)
        unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserError(
            f"data of {folder}",
            got=f"cannot be written: {error.strerror or error}",
            expected="a directory that can be written and has space left",
            remedy="make room, or choose another workdir",
        ) from error
    return folder


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A name of the whole content, which other arrays do not have."""
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype} {array.shape}".encode())
        content.update(
            cast(Any, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        )
    return content.hexdigest()[:16]


def _check_digest(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Compares with what `keep_arrays` has written; other folders have no digest."""
    if not (path / _DIGEST).exists():
        return
    written = (path / _DIGEST).read_text(errors="replace").strip()
    if _digest(arrays) != written:
        raise UserError(
            f"arrays {path}",
            got="other content than was written there",
            expected=f"arrays of the digest {written[:40]!r}",
            remedy="delete the folder and give the arrays again, or restore it",
        )


def _damaged(path: Path, error: Exception) -> UserError:
    text = (str(error).splitlines() or [""])[0]
    return refusal(
        f"arrays {path}",
        f"{type(error).__name__}: {text}",
        "whole files that numpy.savez or numpy.save has written, without objects",
    )


def refusal(culprit: str, got: str, expected: str) -> UserError:
    """Makes the error about arrays that are no data set.

    Args:
      culprit: Name of the array, and the file or call that it is from.
      got: Description of what it is.
      expected: Description of what it should be.

    Returns:
      The error, to be raised by the caller.
    """
    return UserError(
        culprit,
        got=got,
        expected=expected,
        remedy="docs/data.md says what arrays are taken",
    )
