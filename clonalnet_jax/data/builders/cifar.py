"""CIFAR-10 and CIFAR-100 from their official Python archives.

The archives hold pickles, and unpickling runs what its author wrote. Here a pickle gets
byte arrays and nothing else.
"""

import functools
import io
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clonalnet_jax.data.builders.archives import Tree, damaged, open_tree
from clonalnet_jax.data.builders.content import Content, EncodedImage
from clonalnet_jax.errors import UserError


def cifar10(source: Path) -> Content:
    """`cifar-10-python.tar.gz`, or the directory in it.

    Args:
      source: archive or directory.

    Returns:
      50,000 training and 10,000 test images of 32x32.

    Raises:
      UserError: it is damaged, or not this data set.
    """
    tree = open_tree(source, below="batches.meta")
    batches = sorted(name for name in tree if name.startswith("data_batch_"))
    splits = {"train": batches, "test": ["test_batch"]}
    return _content(source, tree, splits, "batches.meta", b"label_names", b"labels")


def cifar100(source: Path) -> Content:
    """`cifar-100-python.tar.gz`, or the directory in it; the 100 fine labels.

    Args:
      source: archive or directory.

    Returns:
      50,000 training and 10,000 test images of 32x32.

    Raises:
      UserError: it is damaged, or not this data set.
    """
    tree = open_tree(source, below="meta")
    splits = {"train": ["train"], "test": ["test"]}
    return _content(source, tree, splits, "meta", b"fine_label_names", b"fine_labels")


def _content(
    source: Path,
    tree: Tree,
    splits: dict[str, list[str]],
    meta: str,
    names_key: bytes,
    labels_key: bytes,
) -> Content:
    names = [name.decode() for name in _load(source, tree, meta, names_key)]
    return Content(
        description=f"CIFAR-{len(names)} (Krizhevsky 2009), from its Python archive.",
        class_names=tuple(names),
        shape=(32, 32, 3),
        splits={
            split: functools.partial(
                _examples, source, tree, files, labels_key, len(names)
            )
            for split, files in splits.items()
        },
    )


def _examples(
    source: Path, tree: Tree, files: Sequence[str], labels_key: bytes, classes: int
) -> Iterator[EncodedImage]:
    for file in files:
        data = _load(source, tree, file, b"data")
        labels = _load(source, tree, file, labels_key)
        if data.shape != (len(labels), 3072) or not set(labels) <= set(range(classes)):
            raise UserError(
                f"--source {source}, file {file}",
                got=f"data of shape {data.shape}, {len(labels)} labels from "
                f"{min(labels, default=0)} to {max(labels, default=0)}",
                expected=f"3072 bytes an image and labels below {classes}",
                remedy="download the archive again",
            )
        images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(png, "PNG")
            yield EncodedImage(f"{file} {number}", png.getvalue(), int(label))


def _load(source: Path, tree: Tree, file: str, key: bytes) -> Any:
    try:
        return _unpickle(tree[file]())[key]
    except _ForeignError as error:
        raise UserError(
            f"--source {source}, file {file}",
            got=f"a pickle that asks for {error}",
            expected="arrays of bytes, lists and names; it was not run",
            remedy="do not trust this archive: get it from its authors' page",
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise damaged(source / file, error) from error


# Kept for the two reads of a file, which is 30 MB at least.
@functools.lru_cache(maxsize=1)
def _unpickle(content: bytes) -> dict[bytes, Any]:
    found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    return {key: v.array if isinstance(v, _Array) else v for key, v in found.items()}


class _ForeignError(pickle.UnpicklingError):
    """A pickle asks for something that these archives do not need."""


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for what NumPy's pickles ask for, none with attributes to set."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _STAND_INS:
            raise _ForeignError(f"{module}.{name}")
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
    """The only dtype there is; its state says no more."""

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
