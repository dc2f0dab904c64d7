"""State dicts from files, without PyTorch and without trusting them.

A `.pth` file is a pickle, and unpickling runs whatever its author wrote. Here it is
read as data (`pickles.py`), and the tensors of one state dict are made into arrays.
"""

import contextlib
import functools
import io
import mmap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from safetensors import deserialize

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights.flax_files import (
    orbax_in,
    read_msgpack,
    read_npz,
    read_orbax,
)
from clonalnet_jax.weights.folders import INDEX, file_in, shards_of
from clonalnet_jax.weights.formats import check_archive, kind_of, refusal
from clonalnet_jax.weights.pickles import read_pickle
from clonalnet_jax.weights.tensors import Storage, Tensor, build, read_tensor, refer
from clonalnet_jax.weights.wrappers import take_out

_SAFETENSORS: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
}
# Reads the bytes of a storage, given its key.
_Load = Callable[[str], bytes]


class StateDict(NamedTuple):
    """What was taken out of a file.

    Attributes:
      tensors: Arrays by PyTorch's names.
      others: The objects that the file has instead of a tensor, by tensor name.
      notes: Sentences on the parts that were taken and left out.
    """

    tensors: dict[str, np.ndarray]
    others: dict[str, str]
    notes: tuple[str, ...]


def read_state_dict(path: Path, *, key: str = "") -> dict[str, np.ndarray]:
    """Reads a file of weights; see `read_checkpoint`.

    Args:
      path: The file.
      key: The place of the state dict in it; see `config.baseline.weights_key`.

    Returns:
      Arrays by PyTorch's names, which may be read-only.

    Raises:
      UserError: It cannot be read; says what it is instead.
    """
    return read_checkpoint(path, key=key).tensors


def read_checkpoint(path: Path, *, key: str = "") -> StateDict:
    """Reads the state dict of a file that safetensors or any PyTorch has written.

    Args:
      path: The file, of any name; a folder of the Hugging Face hub, with one file or
        several; or a directory that Orbax has written.
      key: The place of the state dict in it: a key, keys joined by `/`, or the prefix
        of the names wanted. If it is empty, it is looked for where training programs
        put it, the network's own weights before their averages.

    Returns:
      The tensors, without counters and without a prefix that a wrapper has put before
      all of them.

    Raises:
      UserError: The file is missing, damaged or something else, or has no state dict.
    """
    orbax = orbax_in(path) if path.is_dir() else None
    if path.is_dir() and orbax is None:
        path = file_in(path)
    if path.name == INDEX:
        return _of_shards(path, key)
    if orbax is None and not path.is_file():
        raise UserError(
            f"weights {path}",
            got="no such file",
            expected="a .safetensors or .pth file, a folder of the hub, or Orbax's",
            remedy="check --config.baseline.weights",
        )
    opened = {
        "safetensors": _safetensors,
        "zip": _zip,
        "legacy": _legacy,
        "npz": _without_storages(read_npz),
        "msgpack": _without_storages(read_msgpack),
        "orbax": _without_storages(read_orbax),
    }
    try:
        opener = opened[kind_of(path)] if orbax is None else opened["orbax"]
        with opener(orbax or path) as (content, load):
            taken = take_out(content, key, source=str(path))
            tensors = {
                name: read_tensor(value, load) if isinstance(value, Tensor) else value
                for name, value in taken.tensors.items()
            }
    except UserError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        raise _unreadable(path, error) from error
    return StateDict(tensors, taken.others, taken.notes)


def _unreadable(path: Path, error: Exception) -> UserError:
    return refusal(
        path,
        f"cannot be read: {type(error).__name__}: {error}",
        "it is damaged or cut off: download or copy it again",
    )


def _of_shards(index: Path, key: str) -> StateDict:
    """Reads a network that is spread over files; a prefix is that of all of them."""
    arrays: dict[str, np.ndarray] = {}
    for shard in shards_of(index):
        arrays |= _read_shard(shard)
    taken = take_out(arrays, key, source=str(index))
    return StateDict(taken.tensors, taken.others, taken.notes)


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    try:
        with _safetensors(path) as (arrays, _):
            return dict(arrays)
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[tuple[Any, _Load]]:
    arrays = {}
    for name, entry in deserialize(path.read_bytes()):
        dtype = _SAFETENSORS.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{name} has the dtype {entry['dtype']}")
        arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    yield arrays, _no_storage


def _without_storages(
    read: Callable[[Path], AbstractContextManager[dict[str, np.ndarray]]],
) -> Callable[[Path], AbstractContextManager[tuple[Any, _Load]]]:
    @contextlib.contextmanager
    def opened(path: Path) -> Iterator[tuple[Any, _Load]]:
        with read(path) as arrays:
            yield arrays, _no_storage

    return opened


def _no_storage(key: str) -> bytes:
    raise ValueError(f"no storage {key}")


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[tuple[Any, _Load]]:
    """What torch.save writes from 1.6 on: a pickle and a file for each storage."""
    with zipfile.ZipFile(path) as archive:
        root = check_archive(path, archive)
        left = path.stat().st_size

        @functools.cache
        def read(name: str) -> bytes:
            nonlocal left
            left -= archive.getinfo(root + name).file_size
            # torch.save does not compress, so that nothing here can unpack to more.
            if left < 0:
                raise ValueError("its parts hold more than the file: compressed")
            return archive.read(root + name)

        if f"{root}byteorder" in archive.namelist() and read("byteorder") != b"little":
            raise ValueError("saved on a big-endian machine")
        # Not from the archive itself: reading as much as a pickle says takes memory.
        content = read_pickle(io.BytesIO(read("data.pkl")), build, refer)
        yield content, lambda key: read(f"data/{key}")


@contextlib.contextmanager
def _legacy(path: Path) -> Iterator[tuple[Any, _Load]]:
    """What torch.save wrote before 1.6: five pickles, and then the storages."""
    sizes: dict[str, int] = {}

    def note(identifier: Any) -> Any:
        value = refer(identifier)
        if isinstance(value, Storage):
            sizes[value.key] = value.dtype.itemsize
        return value

    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        pickles = cast(BinaryIO, content)
        _magic, _version, system = (read_pickle(pickles, build, note) for _ in range(3))
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise ValueError("saved on a big-endian machine")
        saved = read_pickle(pickles, build, note)
        keys = read_pickle(pickles, build, note)
        places: dict[str, slice] = {}
        for key in keys:
            count = int.from_bytes(content.read(8), "little")
            start = content.tell()
            end = start + count * sizes[key]
            if end > len(content):
                raise ValueError(f"storage {key} lies behind the end of the file")
            places[key] = slice(start, end)
            content.seek(end)
        yield saved, functools.cache(lambda key: content[places[key]])
