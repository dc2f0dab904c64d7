"""Whether the files of a TFDS data set are all there, and what they should be."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.splits import SplitInfo

from clonalnet_jax.errors import UserError

_INFO, _FEATURES, _NAMES = "dataset_info.json", "features.json", "label.labels.txt"
_REMEDY = "delete that directory and prepare the data set again"
_OURS = "clonalnet_jax."


def check_whole(directory: Path) -> None:
    """Refuses a data set whose preparation was broken off or that has lost something.

    Args:
      directory: The version's directory, such as `<name>/1.0.0`; there need be none.

    Raises:
      UserError: A description is no such JSON file, or a file of images is missing,
        empty, cut off, or has more or fewer images than it should.
    """
    if not directory.exists():
        return check_not_broken_off(directory.parent)
    check_descriptions(directory)
    try:
        info = read_only_builder.builder_from_directory(directory).info
        splits = list(info.splits.values())
        files = [(split, Path(path)) for split in splits for path in split.filepaths]
    except Exception as error:  # TFDS raises whatever its parsers do
        raise _damaged(
            directory,
            f"{_INFO} or {_FEATURES} with other content than TFDS writes "
            f"({type(error).__name__}: {str(error).splitlines()[0]})"
            if str(error)
            else f"{_INFO} or {_FEATURES} with other content than TFDS writes",
        ) from error
    ours = (info.as_proto.module_name or "").startswith(_OURS)
    if ours and not (directory / _NAMES).exists():
        raise _damaged(directory, f"no {_NAMES}, where the classes' names are")
    for split, path in files:
        _check_shard(directory, split, path)


def check_descriptions(directory: Path) -> None:
    """Refuses a data set whose `.json` files are not what TFDS writes.

    Args:
      directory: The version's directory.

    Raises:
      UserError: One is missing, cut off, or JSON of another kind.
    """
    for name, key in ((_INFO, "name"), (_FEATURES, "pythonClassName")):
        try:
            found = json.loads((directory / name).read_bytes())
        except OSError as error:
            raise _damaged(directory, f"{name}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise _damaged(directory, f"{name}, which is no JSON: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get(key), str):
            raise _damaged(directory, f"{name}, in which there is no {key!r}")


def check_not_broken_off(directory: Path) -> None:
    """Refuses a data set of which there is nothing but the start.

    Args:
      directory: The data set's directory, in which those of its versions lie.

    Raises:
      UserError: There is an unfinished version.
    """
    left = sorted(directory.glob("incomplete.*"))
    if left:
        raise UserError(
            f"TFDS data set {directory}",
            got=f"half prepared: {left[0].name}",
            expected="a preparation that went to its end",
            remedy=f"delete {left[0]} (unless it is being written just now) and "
            "prepare it again",
        )


def find_damaged(files: Iterable[str]) -> str:
    """Reads ArrayRecord files until one fails; for a message, not for speed.

    Args:
      files: Their paths.

    Returns:
      The first that cannot be read as a whole, or where they are if all can.
    """
    files = list(files)
    for path in files:
        if _fault(Path(path), lambda reader: reader.read_all()) is not None:
            return path
    return f"one of {files[0]} and {len(files) - 1} more" if files else "no file"


def _check_shard(directory: Path, split: SplitInfo, path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        raise UserError(
            f"TFDS data set {directory}",
            got=f"empty {path.name}" if path.exists() else f"no {path.name}",
            expected=f"all {split.num_shards} files of split {split.name!r}",
            remedy=_REMEDY,
        )
    if ".array_record" not in path.name:
        return
    count = dict(zip(map(Path, split.filepaths), split.shard_lengths, strict=True))[
        path
    ]

    def check_count(reader: ArrayRecordReader) -> None:
        if reader.num_records() != count:
            raise ValueError(f"{reader.num_records():,} images, not {count:,}")

    if fault := _fault(path, check_count):
        raise _damaged(directory, f"{path.name}: {fault}")


def _fault(path: Path, use: Callable[[ArrayRecordReader], object]) -> str | None:
    """Says why an ArrayRecord file cannot be used; None where it can."""
    try:
        reader = ArrayRecordReader(str(path))
        if not reader.ok():
            reader.read_all()  # which says why
            return "it cannot be opened"
        use(reader)
        reader.close()
    except Exception as error:  # ArrayRecord has a RuntimeError for all
        return str(error).splitlines()[0][:300]
    return None


def _damaged(directory: Path, got: str) -> UserError:
    return UserError(
        f"TFDS data set {directory}",
        got=got,
        expected=f"{_INFO}, {_FEATURES} and ArrayRecord files as they were prepared",
        remedy=_REMEDY,
    )
