"""What a step's time goes into, as a picture: from a trace of the programs.

    python benchmarks/timeline.py --figure=docs/timeline.svg

Traces some steps of plain training and of the clone's (see benchmarks/step.py) one
after the other, sorts the operations by what they are for, and draws when each kind was
at work in the last step. Operations overlap, so that kinds may sum to more than the
step; *idle* is the time between the first and the last operation of all steps in which
none was at work. Tracing itself costs time: benchmarks/step.py has the true one.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
from absl import flags
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.contenders import Contender, make_setting
from benchmarks.measuring import run_benchmark
from clonalnet_jax.runtime.partition import layout_of, make_mesh

_MODEL = flags.DEFINE_string("model", "resnet20", "A name of clonalnet_jax.models.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a step.", 1)
_DTYPE = flags.DEFINE_string("compute_dtype", None, "None: bfloat16 but on CPU.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps that are traced.", 2)
_FIGURE = flags.DEFINE_string("figure", None, "SVG file to write.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

Interval = tuple[float, float]
# By the name that an operation has of our code, the first that fits.
_KINDS = {
    "baseline": r"/baseline/",
    "forward: convolutions": r"jvp\((?!.*transpose\().*conv_general_dilated",
    "forward: the rest": r"jvp\(loss|^(?!.*transpose\(jvp).*jvp\(",
    "weight gradients": r"weight_gradient",
    "image gradients": r"transpose\(jvp.*conv_general_dilated",
    "backward: the rest": r"transpose\(jvp",
    "optimizer": r"/optimizer/",
    "images, metrics": r"",
}
_COLOURS = (
    *("#7f7f7f", "#1f77b4", "#9ecae1", "#d62728", "#ff7f0e", "#fdd0a2"),
    *("#2ca02c", "#bcbd22"),
)


def main(argv: list[str]) -> None:
    """Measures, prints and draws."""
    del argv
    on_cpu = not layout_of(make_mesh()).loops_are_fast
    dtype = _DTYPE.value or ("float32" if on_cpu else "bfloat16")
    setting = make_setting(
        _MODEL.value,
        batch_size=_BATCH.value,
        size=None,
        classes=None,
        dtype=dtype,
        together=1,
    )
    found = {name: _trace(setting.contenders[name]()) for name in ("plain", "clone")}
    device = jax.devices()[0].device_kind
    table = Table(title=f"{_MODEL.value}, {_BATCH.value} images, {dtype}, {device}")
    table.add_column("ms of a step in which is at work")
    for name in found:
        table.add_column(name, justify="right")
    for kind in _KINDS:
        cells = [f"{_length(row['intervals'][kind]):.1f}" for row in found.values()]
        table.add_row(kind, *cells)
    table.add_row("all", *(f"{row['step_ms']:.1f}" for row in found.values()))
    table.add_row("idle, %", *(f"{row['idle_percent']:.1f}" for row in found.values()))
    Console(width=90).print(table)
    if _FIGURE.value:
        _draw(found, f"{table.title}", Path(_FIGURE.value))
    if _OUTPUT.value:
        result = {"device": device, "model": _MODEL.value, "rows": found}
        Path(_OUTPUT.value).write_text(json.dumps(result, indent=2))


def _trace(contender: Contender) -> dict[str, Any]:
    """Of the last step, when each kind is at work, in ms; idle time of all of them."""
    kinds = _kinds_of_operations(contender.program.as_text())
    call, _ = contender.repeat(_STEPS.value)
    call()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            call()
        (path,) = Path(directory).rglob("*.xplane.pb")
        operations = _read(path)
    operations = [row for row in operations if row[1] in kinds]
    every = _union(interval for *_, interval in operations)
    last = max(operations, key=lambda row: row[2][1])[0]
    of_last = [(name, interval) for run, name, interval in operations if run == last]
    begin = min(start for _, (start, _) in of_last)
    intervals = {
        kind: _union(
            (start - begin, end - begin)
            for name, (start, end) in of_last
            if kinds[name] == kind
        )
        for kind in _KINDS
    }
    span = every[-1][1] - every[0][0]
    return {
        "intervals": intervals,
        "step_ms": span / _STEPS.value,
        "idle_percent": 100 * (1 - _length(every) / span),
    }


def _kinds_of_operations(text: str) -> dict[str, str]:
    """By operation of a compiled program. What XLA added is its first reader's."""
    names, readers = {}, {}
    for line in text.splitlines():
        match = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = \S+ [\w-]+\((.*)", line)
        if not match:
            continue
        name, rest = match[1], match[2]
        scope = re.search(r'op_name="([^"]+)"', rest)
        names[name] = scope[1] if scope else ""
        for operand in re.findall(r"%([\w.-]+)", rest.split("metadata=")[0]):
            readers.setdefault(operand, name)

    def kind(name: str) -> str:
        while not names.get(name) and name in readers:
            name = readers[name]
        scope = names.get(name, "")
        return next(kind for kind, form in _KINDS.items() if re.search(form, scope))

    return {name: kind(name) for name in names}


def _read(path: Path) -> list[tuple[int, str, Interval]]:
    """Run, name and time (ms) of all operations of a trace."""
    found, ends = [], {}
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                # On a CPU an operation that others go on with ends in an event apart.
                if event.name.startswith("end: "):
                    name = event.name.removeprefix("end: ")
                    ends.setdefault(name, []).append(event.end_ns)
                    continue
                stats = dict(event.stats)
                if "hlo_op" in stats:
                    run = stats.get("run_id", stats.get("correlation_id", 0))
                    found.append((run, event.name, event.start_ns, event.end_ns))
    rows = []
    for run, name, start, end in sorted(found, key=lambda row: row[2]):
        later = [x for x in ends.get(name, ()) if x >= start]
        rows.append((run, name, (start / 1e6, min(later, default=end) / 1e6)))
    return rows


def _union(intervals: Iterable[Interval], gap: float = 0.0) -> list[Interval]:
    """Those that touch, or are no further apart than a gap, as one."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _length(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals)


def _draw(found: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    # The same bytes for the same figures.
    with mpl.rc_context({"svg.hashsalt": "timeline", "font.size": 9}):
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        every = figure.subplots(len(found), 1, sharex=True)
        for axes, (name, row) in zip(every, found.items(), strict=True):
            for height, (kind, colour) in enumerate(zip(_KINDS, _COLOURS, strict=True)):
                # As wide as a line, and no file of thousands of bars.
                shown = _union(row["intervals"][kind], gap=row["step_ms"] / 500)
                bars = [(start, end - start) for start, end in shown]
                axes.broken_barh(bars, (height - 0.4, 0.8), color=colour)
            axes.set_yticks(range(len(_KINDS)), list(_KINDS))
            axes.set_ylim(len(_KINDS) - 0.5, -0.5)
            axes.set_title(f"{name}: {row['idle_percent']:.1f} % idle", fontsize=9)
        every[-1].set_xlabel("ms of a step")
        figure.suptitle(title)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    run_benchmark(main)
