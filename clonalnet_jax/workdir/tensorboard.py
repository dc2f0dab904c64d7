"""TensorBoard's event files."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

# tensorboardX imports PyTorch, where it is installed, for one annotation: a second of
# every start.
_torch = sys.modules.setdefault("torch", cast(Any, None))
try:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
finally:
    if _torch is None:
        del sys.modules["torch"]


class Board:
    """TensorBoard events, written at once.

    tensorboardX's own SummaryWriter writes from a thread, which dies on a full disk
    and leaves the program waiting for it forever.
    """

    def __init__(self, directory: Path, step: int) -> None:
        """Opens a new file in a directory for what comes after a step."""
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}")
        if step:
            # Hides what a killed run logged beyond the step it is resumed from.
            restart = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=step + 1, session_log=restart))

    def add(self, split: str, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a split at a step."""
        for name, value in metrics.items():
            event = Event(step=step, wall_time=time.time())
            event.summary.CopyFrom(summary.scalar(f"{split}/{name}", value))
            self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Nothing can be added any more."""
        self._writer.close()
