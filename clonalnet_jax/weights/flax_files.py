"""Variables as Flax programs save them: Orbax, msgpack, and NumPy's archives."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict

_VARIABLES = ("params", "batch_stats")
# Weights hardly compress. What unpacks to more is a bomb.
_COMPRESSION = 20
_SMALL = 64 * 2**20


@contextlib.contextmanager
def read_npz(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Reads what `numpy.savez` has written of variables by their paths.

    Args:
      path: The file.

    Yields:
      Arrays by their paths, whose parts dots join.

    Raises:
      ValueError: It holds objects, or unpacks to far more than it takes.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > max(_SMALL, _COMPRESSION * path.stat().st_size):
        raise ValueError(f"it unpacks to {size:,} bytes")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield _with_params({name.replace("/", "."): arrays[name] for name in arrays})


@contextlib.contextmanager
def read_msgpack(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Reads what `flax.serialization.to_bytes` has written of variables or a state.

    Args:
      path: The file.

    Yields:
      Arrays of `params` and `batch_stats` by their paths, whose parts dots join. What
      else a state holds is left out.

    Raises:
      ValueError: It is no mapping of arrays.
    """
    yield _variables_in(msgpack_restore(path.read_bytes()))


@contextlib.contextmanager
def read_orbax(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Reads a checkpoint of Orbax, whatever devices it was saved on.

    Args:
      path: The directory that `orbax_in` has found.

    Yields:
      Arrays as `read_msgpack` gives them.

    Raises:
      ValueError: It is no mapping of arrays.
    """
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler()
    to_host = ocp.RestoreArgs(restore_type=np.ndarray)
    everything = jax.tree.map(lambda _: to_host, handler.metadata(path.absolute()).tree)
    with ocp.PyTreeCheckpointer() as checkpointer:
        content = checkpointer.restore(path.absolute(), restore_args=everything)
    yield _variables_in(content)


def orbax_in(path: Path) -> Path | None:
    """Finds Orbax's checkpoint in a directory: itself, an item, or the last step.

    Args:
      path: A directory that `StandardCheckpointer` or `CheckpointManager` has written,
        or a step of the latter.

    Returns:
      The directory of the arrays; None if there is none.
    """
    steps = [p for p in path.iterdir() if p.name.isdecimal() and p.is_dir()]
    last = [max(steps, key=lambda step: int(step.name))] if steps else []
    for place in (path, *last):
        for item in (".", "default", "state", "model", "params"):
            if (place / item / "_METADATA").is_file():
                return place / item
    return None


def _variables_in(content: Any) -> dict[str, np.ndarray]:
    """Takes the variables out of a state, or out of what holds one."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a {type(content).__name__}, not variables")
    if "params" not in content:
        inner = [value for value in content.values() if isinstance(value, Mapping)]
        content = next((value for value in inner if "params" in value), content)
    if "params" in content:
        content = {name: content[name] for name in _VARIABLES if name in content}
    flat = flatten_dict(content, sep=".")
    arrays = {name: value for name, value in flat.items() if hasattr(value, "shape")}
    if not arrays:
        raise ValueError("no arrays in it")
    return _with_params({name: np.asarray(value) for name, value in arrays.items()})


def _with_params(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Says that arrays are `params` where nothing says what they are."""
    if any(name.partition(".")[0] in _VARIABLES for name in arrays):
        return arrays
    return {f"params.{name}": array for name, array in arrays.items()}
