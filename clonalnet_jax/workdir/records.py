"""The lines of `metrics.jsonl`, read with care: a kill or a full disk may cut one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clonalnet_jax.workdir.sealed import is_sealed, write_sealed

METRICS = "metrics.jsonl"
_CHANGED = "{} is not what was logged: it was cut or changed since"


def read_records(workdir: Path, *, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """Reads what was logged of all runs of a workdir.

    Args:
      workdir: The directory that holds `metrics.jsonl`.
      warn: Function that is told where lines were cut, or changed after a run ended.

    Returns:
      One record a line that is whole, with `run`, `split`, `step` and numbers by name;
      none where there is no such file.
    """
    path = workdir / METRICS
    if not path.exists():
        return []
    content = path.read_bytes()
    lines = content.splitlines()
    records = [record for line in lines if (record := _parse(line)) is not None]
    if len(records) < len(lines):
        cut = len(lines) - len(records)
        warn(f"{path}: {cut} of {len(lines)} lines are cut or damaged; left out")
    elif not is_sealed(workdir, METRICS, content, log=True):
        warn(_CHANGED.format(path))
    return records


def drop_after(
    workdir: Path, run: str, step: int, *, warn: Callable[[str], None]
) -> None:
    """Forgets a run's records beyond a step, and lines that a kill cut short.

    Args:
      workdir: The directory that holds `metrics.jsonl`.
      run: Name of the run; the records of others are kept.
      step: The last step that is kept.
      warn: Function that is told where lines were changed after a run ended.
    """
    path = workdir / METRICS
    if not path.exists():
        return
    content = path.read_bytes()
    if not is_sealed(workdir, METRICS, content, log=True):
        warn(_CHANGED.format(path))
    kept = b"".join(
        line + b"\n"
        for line in content.splitlines()
        if (record := _parse(line)) is not None
        and (record["run"] != run or record["step"] <= step)
    )
    if kept != content:
        write_sealed(workdir, METRICS, kept)


def _parse(line: bytes) -> dict[str, Any] | None:
    """A record; None of a line that is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    kinds = {"run": str, "split": str, "step": int}
    named = all(isinstance(record.get(key), kind) for key, kind in kinds.items())
    numbers = (value for key, value in record.items() if key not in kinds)
    if named and all(isinstance(number, int | float) for number in numbers):
        return record
    return None
