"""PyTorch's tensors as a pickle describes them, read only when they are needed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from clonalnet_jax.weights.pickles import Placeholder, data_items

_STORAGES: dict[str, Any] = {
    "BFloat16Storage": jnp.bfloat16,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "ComplexDoubleStorage": np.complex128,
    "ComplexFloatStorage": np.complex64,
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "QInt32Storage": np.int32,
    "QInt8Storage": np.int8,
    "QUInt8Storage": np.uint8,
    "ShortStorage": np.int16,
    "UntypedStorage": np.uint8,
}
# Dtypes that have no storage of their own, but stand beside an untyped one.
_DTYPES: dict[str, Any] = {
    "float8_e4m3fn": jnp.float8_e4m3fn,
    "float8_e5m2": jnp.float8_e5m2,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
}
# What makes a class's object without a name of its own.
_MAKERS = ("copy_reg._reconstructor", "copyreg._reconstructor", "copyreg.__newobj__")


class Storage(NamedTuple):
    """Values of a file that tensors are made of.

    Attributes:
      dtype: Dtype of the values.
      key: Name that the file gives to the storage.
      length: Number of values.
      offset: Number of the file's values before the first, where it is part of another.
    """

    dtype: np.dtype[Any]
    key: str
    length: int
    offset: int = 0


class Tensor(NamedTuple):
    """Where the values of a tensor lie; `read_tensor` gets them.

    Attributes:
      storage: Storage that holds the values.
      offset: Number of values before the first.
      shape: Shape of the tensor.
      strides: Values from one index to the next, for each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensor(tensor: Tensor, load: Callable[[str], bytes]) -> np.ndarray:
    """Reads the values of a tensor.

    Args:
      tensor: Description of it, which the file may have got wrong on purpose.
      load: Reads the bytes of a storage, given its key.

    Returns:
      A view of the storage, which cannot be written.

    Raises:
      ValueError: The tensor lies outside its storage, or the storage is cut off.
    """
    storage, offset, shape, strides = tensor
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    # as_strided reads wherever it is told to, so the file must not tell it; nor may a
    # stride of 0 make a few bytes fill the memory.
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    numbers = (offset, *shape, *strides, storage.offset, storage.length)
    inside = all(isinstance(n, int) and n >= 0 for n in numbers) and (
        last < storage.length and math.prod(shape) <= storage.length
    )
    if not inside:
        raise ValueError("a tensor lies outside its storage")
    size = storage.dtype.itemsize
    content, start = load(storage.key), storage.offset * size
    values = np.frombuffer(content, storage.dtype, storage.length, start)
    # An axis of length 1 may have any stride, however large.
    steps = [s * size if n > 1 else 0 for n, s in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(
        values[offset:], shape, steps, writeable=False
    )


def refer(identifier: Any) -> Any:
    """Stands for a persistent id of PyTorch's: a storage, or a class of a whole model.

    Args:
      identifier: The id as the pickle has it.

    Returns:
      The storage, or a placeholder for the class.

    Raises:
      ValueError: It is neither.
    """
    match identifier:
        case ("module", Placeholder() as kind, *_):
            return kind
        case ("storage", Placeholder() as kind, str(key), _, int(count), *view):
            dtype = _STORAGES.get(kind.name.rpartition(".")[2])
            if dtype is None:
                return Placeholder(kind.name)
            match view:
                case [(_, int(offset), int(count))]:  # before 1.6: part of another
                    return Storage(np.dtype(dtype), key, count, offset)
            return Storage(np.dtype(dtype), key, count)
    raise ValueError("a reference to something that is no storage")


def build(name: str, arguments: tuple[Any, ...]) -> Any:
    """Stands for what a call would have made, without calling anything.

    Args:
      name: Name of the function or class.
      arguments: Arguments as the pickle has them.

    Returns:
      A tensor, dict or tuple where the name is one that state dicts are made with, and
      else a placeholder.
    """
    match name, arguments:
        case ("collections.OrderedDict", (list(pairs),)):  # as Python 2 wrote them
            couples = (p for p in pairs if isinstance(p, list | tuple) and len(p) == 2)
            return dict(data_items(couples))
        case ("collections.OrderedDict" | "collections.defaultdict", _):
            return {}
        case ("torch.Size", (tuple(shape),)):
            return shape
        case (
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state",
            (Tensor() as tensor, *_),
        ):
            return tensor
        case (
            "torch._tensor._rebuild_from_type_v2",
            (Placeholder(name="torch._utils._rebuild_tensor_v2"), _, tuple(inner), *_),
        ):
            return _tensor(name, inner)
        case ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", _):
            return _tensor(name, arguments)
        case (
            "torch._utils._rebuild_tensor_v3",
            (_, _, _, _, _, _, Placeholder(name=dtype), *_),
        ):
            return _tensor(name, arguments, dtype.removeprefix("torch."))
        case (_, (Placeholder(name=kind), *_)) if name in _MAKERS:
            return Placeholder(kind)
    return Placeholder(name)


def _tensor(
    name: str, arguments: tuple[Any, ...], dtype: str | None = None
) -> Tensor | Placeholder:
    """The tensor of a rebuild function's arguments; a placeholder where it is odd."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if (
            len(shape) == len(strides) <= 32
        ):
            if dtype is None:
                return Tensor(storage, offset, shape, strides)
            if dtype in _DTYPES and storage.dtype == np.uint8:
                kind = np.dtype(_DTYPES[dtype])
                typed = Storage(kind, storage.key, storage.length // kind.itemsize)
                return Tensor(typed, offset, shape, strides)
            return Placeholder(f"torch.{dtype}")
    return Placeholder(name)
