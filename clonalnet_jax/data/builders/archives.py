"""Reads a directory, a zip file or a tar file alike, without unpacking to the disk."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from clonalnet_jax.data.builders import packed
from clonalnet_jax.data.image_files import is_hidden, look_through, read_image_file
from clonalnet_jax.errors import UserError

Tree = Mapping[str, Callable[[], bytes]]


def open_tree(path: Path, *, below: str) -> Tree:
    """Lists the files of a directory or archive.

    Hidden files and what macOS and network stores add (`._x`, `__MACOSX`, `@eaDir`) are
    left out, and nothing is written. An archive's checksums are compared: those of a
    compressed tar file here, those of a member of a zip file when it is read.

    Args:
      path: A directory, `.zip`, `.tar`, `.tar.gz`, `.tar.bz2` or `.tar.xz`; what it is
        shows in its content, not in its name.
      below: A file whose folder is the root; the files outside are left out.

    Returns:
      For the name of each file relative to the root, a function that reads it.

    Raises:
      UserError: There is no such path, it is damaged or encrypted, a link leads nowhere
        or round in a circle, a member lies outside, or `below` is not there, or twice.
    """
    path = path.expanduser()
    try:
        files = _list_folder(path) if path.is_dir() else packed.open_archive(path)
    except UserError:
        raise
    except packed.ERRORS as error:
        raise damaged(path, error) from error
    files = {
        name: file
        for name, file in files.items()
        if not any(is_hidden(part) for part in name.split("/"))
    }
    root = _root(path, list(files), below)
    return {
        name.removeprefix(root): _guarded(path, name, read)
        for name, read in files.items()
        if name.startswith(root)
    }


def damaged(path: Path, error: Exception) -> UserError:
    """Makes an error about an archive that cannot be read."""
    return UserError(
        f"--source {escaped(str(path))}",
        got=escaped(f"{type(error).__name__}: {error}"),
        expected="a directory, or a whole .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz",
        remedy="check the path, or download it again",
    )


def escaped(name: str) -> str:
    """The name of a file with what is not UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _root(path: Path, names: list[str], below: str) -> str:
    """The folder of `below`, with its slash: the one that lies highest."""
    found = [name for name in names if f"/{name}".endswith(f"/{below}")]
    top = min((name.count("/") for name in found), default=0)
    highest = sorted(name for name in found if name.count("/") == top)
    if len(highest) == 1:
        return highest[0].removesuffix(below)
    raise UserError(
        f"--source {escaped(str(path))}",
        got=f"more than one: {escaped(', '.join(highest[:3]))}"
        if highest
        else f"{len(names)} files, none of them called {below}",
        expected=f"the official directory or archive, which holds one {below}",
        remedy="give the directory or archive as it was downloaded",
    )


def _list_folder(root: Path) -> dict[str, Callable[[], bytes]]:
    files: dict[str, Callable[[], bytes]] = {}
    for found in look_through(root):
        if found.kind == "loop":
            raise UserError(
                f"--source {escaped(str(root))}",
                got=f"{escaped(found.path)}, a link to a folder above it",
                expected="links that lead somewhere else",
                remedy="remove the link",
            )
        if found.kind in ("image", "other"):
            read = functools.partial(read_image_file, root / found.path)
            files[found.path.replace(os.sep, "/")] = read
    return files


def _guarded(path: Path, name: str, read: Callable[[], bytes]) -> Callable[[], bytes]:
    """Reads a file and says which it was where that fails."""

    def guarded() -> bytes:
        try:
            return read()
        except packed.ERRORS as error:
            raise UserError(
                f"--source {escaped(str(path))}, file {escaped(name)}",
                got=escaped(f"{type(error).__name__}: {error}"),
                expected="a whole file",
                remedy="mend or remove it, or download the archive again",
            ) from error

    return guarded
