"""Reads a directory, a zip file or a tar file alike."""

import functools
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from clonalnet_jax.errors import UserError

Tree = Mapping[str, Callable[[], bytes]]


def open_tree(path: Path, *, below: str) -> Tree:
    """The files of a directory or archive.

    Args:
      path: a directory, `.zip`, `.tar`, `.tar.gz` or `.tgz`.
      below: a file whose folder is the root; what lies outside is left out.

    Returns:
      By name relative to the root, a function that reads the file.

    Raises:
      UserError: there is no such path, it is damaged, or `below` is not in it.
    """
    try:
        files = _open(path)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise damaged(path, error) from error
    roots = sorted((name for name in files if _is(name, below)), key=len)
    if not roots:
        raise UserError(
            f"--source {path}",
            got=f"{len(files)} files, none of them called {below}",
            expected=f"the official directory or archive, which holds {below}",
            remedy="give the directory or archive as it was downloaded",
        )
    root = roots[0].removesuffix(below)
    return {n.removeprefix(root): f for n, f in files.items() if n.startswith(root)}


def damaged(path: Path, error: Exception) -> UserError:
    """An error about an archive that cannot be read."""
    return UserError(
        f"--source {path}",
        got=f"{type(error).__name__}: {error}",
        expected="a directory, or a whole .zip, .tar or .tar.gz file",
        remedy="check the path, or download it again",
    )


def _is(name: str, file: str) -> bool:
    return name == file or name.endswith(f"/{file}")


def _open(path: Path) -> dict[str, Callable[[], bytes]]:
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.is_file())
        return {p.relative_to(path).as_posix(): p.read_bytes for p in found}
    if path.suffix == ".zip":
        archive = zipfile.ZipFile(path)
        names = (name for name in archive.namelist() if not name.endswith("/"))
        return {name: functools.partial(archive.read, name) for name in names}
    # A compressed tar file cannot be entered in the middle: it is read as a whole.
    with tarfile.open(path) as tar:
        members = ((member.name, tar.extractfile(member)) for member in tar)
        files = {name: io.BytesIO(file.read()) for name, file in members if file}
    return {name: file.getvalue for name, file in files.items()}
