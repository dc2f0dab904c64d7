"""State dicts from files, without PyTorch and without trusting them.

A `.pth` file is a pickle, and unpickling runs whatever its author wrote. Here only
what a state dict is made of may be named in it: ordered dicts, tensors and their
storages. Everything else is refused before it is called.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clonalnet_jax.errors import UserError

_STORAGES = {
    "BFloat16Storage": jnp.bfloat16,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "ShortStorage": np.int16,
}
# Where training programs keep the state dict in what they save, best first.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads a `.safetensors`, `.pth`, `.pt` or `.bin` file.

    Args:
      path: the file. A state dict inside `state_dict`, `model` or their EMA is found,
        and the prefix `module.` of data-parallel training dropped.

    Returns:
      Arrays by PyTorch's names.

    Raises:
      UserError: the file is missing, damaged, in PyTorch's format of before 2020, or
        names something that a state dict does not need.
    """
    if not path.is_file():
        raise UserError(
            f"weights {path}",
            got="no such file",
            expected="a .safetensors or .pth file",
            remedy="check --config.baseline.weights",
        )
    if path.suffix == ".safetensors":
        try:
            return _without_prefix(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    return _state_dict_of(path, _unpickle(path))


def _unpickle(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith("/data.pkl")]
            root = name.removesuffix("data.pkl")

            def load_storage(key: str) -> bytes:
                return archive.read(f"{root}data/{key}")

            return _Unpickler(archive.read(name), load_storage, path).load()
    except zipfile.BadZipFile as error:
        raise UserError(
            f"weights {path}",
            got="not a zip file: damaged, or saved by PyTorch before 1.6",
            expected="what torch.save writes since 2020",
            remedy="load it with torch.load(..., weights_only=True) where you trust "
            "it, and save it again, best with safetensors",
        ) from error
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _unreadable(path, error) from error


class _Storage(NamedTuple):
    array: np.ndarray


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_ALLOWED` and those of storages, and no others.

    A pickle may also set attributes on what it is given, so it is given nothing that
    has any to set: names, built-in types and objects without attributes.
    """

    def __init__(
        self, content: bytes, load_storage: Callable[[str], bytes], path: Path
    ) -> None:
        super().__init__(io.BytesIO(content))
        self._load_storage = load_storage
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise UserError(
            f"weights {self._path}",
            got=f"a pickle that asks for {module}.{name}",
            expected="tensors and nothing else; it was not run",
            remedy="get the weights as .safetensors, or, if you trust the file, save "
            "its state_dict() alone",
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, count = pid
        if kind != "storage":
            raise ValueError(f"a reference to a {kind}, not to a storage")
        content = self._load_storage(key)
        return _Storage(np.frombuffer(content, _STORAGES[name], count))


class _RebuildTensor:
    """PyTorch's `_rebuild_tensor_v2`, for a storage of ours."""

    __slots__ = ()

    def __call__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> np.ndarray:
        array = storage.array
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        # as_strided reads wherever it is told to, so the file must not tell it; nor
        # may a stride of 0 make a few bytes fill the memory.
        inside = min(offset, *strides, 0) >= 0 and (0 in shape or last < array.size)
        if not inside or math.prod(shape) > array.size:
            raise ValueError("a tensor lies outside its storage")
        byte_strides = [stride * array.itemsize for stride in strides]
        view = np.lib.stride_tricks.as_strided(array[offset:], shape, byte_strides)
        return np.array(view)


class _RebuildParameter:
    """PyTorch's `_rebuild_parameter`."""

    __slots__ = ()

    def __call__(self, data: np.ndarray, *_: Any) -> np.ndarray:
        return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("torch", "Size"): tuple,
}


def _state_dict_of(path: Path, content: Any) -> dict[str, np.ndarray]:
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            content = inner
            break
    if not isinstance(content, Mapping) or not all(
        isinstance(value, np.ndarray) for value in content.values()
    ):
        raise UserError(
            f"weights {path}",
            got=f"a {type(content).__name__} without a state dict",
            expected="tensors by name, or those under 'state_dict' or 'model'",
            remedy="save model.state_dict()",
        )
    return _without_prefix(content)


def _without_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("module."): array for name, array in state.items()}


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"weights {path}",
        got=f"cannot be read: {type(error).__name__}: {error}",
        expected="a whole .safetensors or .pth file",
        remedy="download or copy it again",
    )
