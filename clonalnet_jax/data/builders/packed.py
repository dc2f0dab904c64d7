"""The members of zip and tar files, as functions that read them."""

import bz2
import functools
import gzip
import io
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError

ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,  # a compression that zipfile does not know
    ValueError,  # numbers in a header that mean nothing
)
"""What reading a damaged archive raises, `UserError` aside."""

# Data sets of this kind have a tenth of it; an archive that unpacks to more is held to
# be made for filling the memory.
_MAX_BYTES = 8 * 2**30
_MAX_HOPS = 40  # from link to link, as Linux has it
_ENCRYPTED = 0x1
_CHUNK = 2**24

Read = Callable[[], bytes]


def open_archive(path: Path) -> dict[str, Read]:
    """Lists the regular files of an archive; links to files stand for the files.

    Args:
      path: A zip file, or a tar file, which may be compressed by gzip, bzip2 or xz. A
        tar file is read as a whole, since a compressed one cannot be entered in the
        middle; its checksum is compared at the end.

    Returns:
      For the name of each file, a function that reads it.

    Raises:
      UserError: It holds encrypted members, links that lead nowhere or in a circle, or
        names that lead out of it; it is not whole, or unpacks to too much.
      OSError: It cannot be read; any of `ERRORS` where it is damaged.
    """
    if zipfile.is_zipfile(path):
        files, links = _open_zip(path)
    else:
        files, links = _open_tar(path)
    return files | {name: _follow(path, name, links, files) for name in links}


def _open_zip(path: Path) -> tuple[dict[str, Read], dict[str, str]]:
    archive = zipfile.ZipFile(path)
    files: dict[str, Read] = {}
    links: dict[str, str] = {}
    for member in archive.infolist():
        if member.is_dir():
            continue
        name = _inside(path, member.filename)
        if member.flag_bits & _ENCRYPTED:
            raise _refused(path, f"{name}, which is encrypted", "unpack it first")
        if member.file_size > _MAX_BYTES:
            raise _too_large(path, name)
        if stat.S_ISLNK(member.external_attr >> 16):
            target = archive.read(member).decode("utf-8", "surrogateescape")
            links[name] = posixpath.join(posixpath.dirname(name), target)
        else:
            files[name] = functools.partial(archive.read, member)
    return files, links


def _open_tar(path: Path) -> tuple[dict[str, Read], dict[str, str]]:
    content = _unpack(path)
    files: dict[str, Read] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=content, mode="r:") as tar:
        for member in tar:
            if member.isdir():
                continue
            name = _inside(path, member.name)
            if member.issym():
                links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
            elif member.islnk():
                links[name] = member.linkname
            elif member.isfile():
                files[name] = _slice(path, content, member)
                links.pop(name, None)
        _check_end(path, content, tar.offset)
    return files, links


def _unpack(path: Path) -> io.BytesIO:
    """Reads an uncompressed tar file to its end, where the checksum is."""
    openers: Mapping[bytes, Callable[[Path], Any]] = {
        b"\x1f\x8b": gzip.GzipFile,
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ\x00": lzma.LZMAFile,
    }
    with path.open("rb") as file:
        start = file.read(6)
    found = [opener for magic, opener in openers.items() if start.startswith(magic)]
    content = io.BytesIO()
    with found[0](path) if found else path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            content.write(chunk)
            if content.tell() > _MAX_BYTES:
                raise _too_large(path, "its content")
    content.seek(0)
    return content


def _slice(path: Path, content: io.BytesIO, member: tarfile.TarInfo) -> Read:
    start, end = member.offset_data, member.offset_data + member.size
    if member.issparse():
        raise _refused(path, f"{member.name}, stored with holes", "unpack it first")
    if end > content.getbuffer().nbytes:
        raise _refused(path, f"only a part of {member.name}", "download it again")
    return lambda: bytes(content.getbuffer()[start:end])


def _check_end(path: Path, content: io.BytesIO, offset: int) -> None:
    """Refuses a tar file that breaks off: tarfile takes a bad header for its end."""
    rest = bytes(content.getbuffer()[offset:])
    if not rest or rest.strip(b"\0"):
        raise _refused(
            path, f"no end: it breaks off at byte {offset:,}", "download it again"
        )


def _inside(path: Path, name: str) -> str:
    """The name in its simplest form; refuses one that leads out of the archive."""
    simple = posixpath.normpath(name)
    if name.startswith("/") or simple.split("/")[0] == ".." or "\0" in name:
        raise _refused(
            path, f"a file called {name}, outside of it", "do not trust this archive"
        )
    return simple


def _follow(
    path: Path, name: str, links: Mapping[str, str], files: Mapping[str, Read]
) -> Read:
    target = name
    for _ in range(_MAX_HOPS):
        if target not in links:
            break
        target = posixpath.normpath(links[target])
    if target in files:
        return files[target]
    raise _refused(
        path,
        f"{name}, a link to {links[name]}, which is no file in it",
        "unpack it and give the directory, or pack it without links (tar -h)",
    )


def _too_large(path: Path, name: str) -> UserError:
    limit = f"more than {_MAX_BYTES // 2**30} GiB"
    return _refused(path, f"{name}, which unpacks to {limit}", "check where it is from")


def _refused(path: Path, got: str, remedy: str) -> UserError:
    def safe(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    return UserError(
        f"--source {safe(str(path))}",
        got=safe(got),
        expected="a whole archive of files, none encrypted and none outside of it",
        remedy=remedy,
    )
