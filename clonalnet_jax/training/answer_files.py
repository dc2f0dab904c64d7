"""The files of a baseline cache, each record of which says what it is an answer to.

A file is an ArrayRecord; a record holds the packed answers of one batch and a digest of
them, of their number and of all that they depend on. So a record that was damaged, or
that is another cache's, is never taken for the right one.
"""

import dataclasses
import hashlib
import math
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import UInt8

from clonalnet_jax.errors import UserError

_DIGEST = 16  # bytes at the end of every record


@dataclasses.dataclass(frozen=True)
class AnswerFiles:
    """The answers of one cache, as far as they are computed.

    Attributes:
      directory: Directory of the files.
      shape: Shape of a record: images of a batch, bytes of an image's answer.
      origin: All that the answers depend on, as text.
    """

    directory: Path
    shape: tuple[int, int]
    origin: str

    def whole(self) -> list[tuple[Path, int]]:
        """Returns whole files in order and the record after the last of each."""
        found, end = [], 0
        for path in sorted(self.directory.glob("answers-*.array_record")):
            match = re.fullmatch(r"answers-(\d+)-(\d+)\.array_record", path.name)
            # Of two files that begin alike, the longer one comes later.
            if match and int(match[1]) == end:
                end = int(match[2])
                found.append((path, end))
        return found

    def write(self, first: int, rows: Sequence[UInt8[np.ndarray, "b size"]]) -> None:
        """Writes a file, which appears when it is whole.

        Args:
          first: Number of the first record.
          rows: The records.

        Raises:
          OSError: The file cannot be written.
        """
        name = f"answers-{first:09d}-{first + len(rows):09d}.array_record"
        # The name is this writer's own: two runs may fill one directory at once.
        temporary = self.directory / f"{name}.{uuid.uuid4().hex}.tmp"
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        for record, row in enumerate(rows, start=first):
            content = row.tobytes()
            writer.write(content + self._digest(record, content))
        writer.close()
        temporary.replace(self.directory / name)

    def read(self, record: int) -> UInt8[np.ndarray, "b size"]:
        """Reads one record.

        Args:
          record: Its number.

        Returns:
          The answers, of the files' shape.

        Raises:
          UserError: There is no such record, or it is not what was written.
        """
        first = 0
        for path, end in self.whole():
            if record < end:
                content = self._content(path, record - first, end - first)
                return self._verified(path, record, content)
            first = end
        raise _damaged(self.directory, f"no record {record}")

    def _content(self, path: Path, index: int, count: int) -> bytes:
        """Reads one of the `count` records of a file."""
        try:
            reader = ArrayRecordReader(str(path))
            found = reader.num_records()
            # From a file that is cut short it reads empty records, without an error.
            content = reader.read([index])[0] if found == count else b""
        except (ValueError, RuntimeError, IndexError, OSError) as error:
            raise _damaged(path, str(error).partition("\n")[0]) from error
        size = math.prod(self.shape) + _DIGEST
        if len(content) != size:
            raise _damaged(
                path,
                f"{found} records, and {len(content)} bytes in record {index}, instead "
                f"of {count} records of {size} bytes",
            )
        return content

    def _verified(self, path: Path, record: int, content: bytes) -> np.ndarray:
        answers, digest = content[:-_DIGEST], content[-_DIGEST:]
        if digest != self._digest(record, answers):
            raise _damaged(path, f"record {record} is damaged, or another cache's")
        return np.frombuffer(answers, np.uint8).reshape(self.shape)

    def _digest(self, record: int, answers: bytes) -> bytes:
        digest = hashlib.blake2b(
            f"{self.origin}\n{record}\n".encode(), digest_size=_DIGEST
        )
        digest.update(answers)
        return digest.digest()


def _damaged(path: Path, got: str) -> UserError:
    return UserError(
        f"baseline cache {path}",
        got=got,
        expected="the file as it was written",
        remedy="delete it and the files after it; they are computed again",
    )
