"""What a file is, by its content, and what to do with one that holds no weights."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from clonalnet_jax.errors import UserError

# The first pickle of a file that PyTorch wrote before 1.6: a number of its own.
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_EXPORT = "save the network's state_dict() there, best with safetensors"
# How other files begin, what they are, and what to do.
_BEGINNINGS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, which stands for the file",
        "fetch the file itself: `git lfs pull`, or the page's download link",
    ),
    (
        b"<",
        "an HTML or XML page, as a server shows for a link to a page or an error",
        "download the file itself; open the address in a browser to see what it says",
    ),
    (
        b"\x1f\x8b",
        "a gzip file",
        "unpack it with gunzip or tar, and give what it holds",
    ),
    (b"\xfd7zXZ", "an xz file", "unpack it with xz or tar, and give what it holds"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, and give what it holds"),
    (b"Rar!", "a RAR archive", "unpack it, and give what it holds"),
    (
        b"\x89HDF",
        "an HDF5 file, as Keras writes it",
        f"load it with Keras; {_EXPORT}",
    ),
    (b"\x93NUMPY", "a single NumPy array", "give a file of all tensors by name"),
    (b"{", "a JSON file", "give the file of the weights themselves"),
)


def kind_of(path: Path) -> str:
    """Tells which reader a file is for, whatever its name ends with.

    Args:
      path: The file.

    Returns:
      `safetensors`; `zip` or `legacy`, the two formats of `torch.save`; `npz`; or
      `msgpack`, which Flax writes.

    Raises:
      UserError: It is none of them; says what it is.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    if not size:
        raise refusal(path, "an empty file", "download or copy it again")
    if head[:2] == b"PK":
        # Only numpy.savez puts an array first, by its name.
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return "npz" if name.endswith(b".npy") else "zip"
    if head[:1] == b"\x80" and head[2:].startswith(LEGACY):
        return "legacy"
    # Eight bytes say how long the header is, which is JSON.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
        return "safetensors"
    # A mapping of few entries whose first key is a short text.
    if head[0] in range(0x81, 0x90) and head[1] in range(0xA1, 0xC0):
        return "msgpack"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, what, remedy in _BEGINNINGS:
        if text.startswith(beginning):
            raise refusal(path, what, remedy)
    if head[257:262] == b"ustar":
        raise refusal(path, "a tar archive", "unpack it, and give what it holds")
    if head[:1] == b"\x80":
        what = "a pickle that torch.save did not write"
        raise refusal(path, what, f"load it where you trust it; {_EXPORT}")
    raise refusal(
        path,
        f"none of the known formats; it begins with {head[:16]!r}",
        "check that it is the file of the weights, and download or copy it again",
    )


def check_archive(path: Path, archive: zipfile.ZipFile) -> str:
    """Finds the pickle of a zip file that `torch.save` wrote.

    Args:
      path: The file, for the message.
      archive: The opened zip file.

    Returns:
      The folder inside it, with a slash at its end.

    Raises:
      UserError: It is another zip file; says which.
    """
    names = archive.namelist()
    roots = [n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")]
    if any("/code/" in n or n.endswith("/constants.pkl") for n in names):
        remedy = f"load it with torch.jit.load; {_EXPORT}"
        raise refusal(path, "a TorchScript archive, a program", remedy)
    if len(roots) == 1:
        return roots[0]
    what = f"a zip archive of {named(names)}"
    raise refusal(path, what, "unpack it, and give the file of the weights in it")


def refusal(path: Path | str, what: str, remedy: str) -> UserError:
    """Makes the error about a file that is something else.

    Args:
      path: The file.
      what: The kind of file that it is.
      remedy: The one thing to do.

    Returns:
      The error, to be raised by the caller.
    """
    return UserError(
        f"weights {path}",
        got=what,
        expected="a state dict as .safetensors or as torch.save writes it, or Flax's "
        "variables as msgpack or .npz",
        remedy=remedy,
    )


def named(names: Iterable[object], shown: int = 10) -> str:
    """Lists the first names, and says how many more there are."""
    known = [json.dumps(n) if isinstance(n, str) else repr(n) for n in names]
    more = f" and {len(known) - shown} more" if len(known) > shown else ""
    return (", ".join(known[:shown]) or "nothing") + more
