"""A trace of a few steps, once a run is under way; see docs/performance.md."""

from pathlib import Path

import jax

# By then everything is compiled and the input runs ahead.
_FIRST = 10


class Profile:
    """Traces some steps of a run with `jax.profiler`."""

    def __init__(self, directory: Path, *, steps: int, start: int) -> None:
        """Writes nothing yet.

        Args:
          directory: Directory of the trace, for TensorBoard, XProf or Perfetto.
          steps: Number of steps to trace; 0 for none.
          start: step that the run begins with.
        """
        self._directory = directory
        self._first = start + _FIRST if steps else None
        self._last = start + _FIRST + steps
        self._running = False

    def after(self, step: int, outputs: object) -> None:
        """Begins or ends the trace where it is time to.

        Args:
          step: The step that has been dispatched.
          outputs: Outputs of that step; earlier dispatches are not traced.
        """
        if self._first is not None and step >= self._first:
            jax.block_until_ready(outputs)
            jax.profiler.start_trace(self._directory)
            self._first, self._running = None, True
        elif self._running and step >= self._last:
            jax.block_until_ready(outputs)
            self.stop()

    def stop(self) -> None:
        """Writes the trace, if one is being taken."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
