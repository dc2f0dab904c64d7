"""Reads a pickle of byte arrays, lists and names without running anything in it.

Unpickling runs what the pickle's author wrote. Here it gets stand-ins, which make byte
arrays and nothing else.
"""

import io
import pickle
from typing import Any

import numpy as np


def unpickle(content: bytes) -> dict[bytes, Any]:
    """Reads a dict of byte arrays and lists.

    Args:
      content: A pickle that Python 2 or 3 wrote, of any protocol.

    Returns:
      By key, uint8 arrays and whatever plain values there are.

    Raises:
      ForeignError: It asks for any function or class besides; none was run.
      Exception: It is damaged, which raises nearly anything.
    """
    found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    return {key: v.array if isinstance(v, _Array) else v for key, v in found.items()}


class ForeignError(pickle.UnpicklingError):
    """A pickle asks for something that byte arrays do not need."""


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for what NumPy's pickles ask for, none with attributes to set."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _STAND_INS:
            raise ForeignError(f"{module}.{name}")
        return _STAND_INS[module.replace("numpy._core", "numpy.core"), name]


class _Array:
    """An array of bytes on its way out of a pickle."""

    __slots__ = ("array",)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Bytes) or fortran:
            raise ValueError("an array that is not of bytes in C order")
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


class _Bytes:
    """Stands for the only dtype there is; its state is of no use."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Reconstruct:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _Dtype:
    __slots__ = ()

    def __call__(self, name: str | bytes, *_: Any) -> _Bytes:
        if name not in ("u1", b"u1"):
            raise ValueError(f"an array of dtype {name!r}, not of bytes")
        return _Bytes()


class _Encode:
    """How Python 3 writes bytes into a pickle of protocol 2."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype(),
    ("_codecs", "encode"): _Encode(),
}
