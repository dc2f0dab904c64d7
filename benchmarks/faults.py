"""Damages every file of a workdir and signals the program at random moments.

    python benchmarks/faults.py --directory=DIRECTORY

Trains a small workdir once, and a comparison. Then takes a copy for each file and each
damage (cut in half, emptied, a bit flipped, valid JSON of another kind, removed), and
exports from it, predicts, reports, evaluates and trains on, in this process. What no
checkpoint's digests cover is tried a second time in a workdir whose clone has to go on.
Last it starts the program in each mode and sends SIGTERM or SIGINT after a random time.

Each must end with the same figures, with one message that names the file, or with the
damaged checkpoint set aside and the same figures after training on; after a message,
what it advises must lead to the same figures. A traceback, a hang or other figures
without a word are faults; the exit code is 1 if there are any. What was tried is kept
in the directory: the same command goes on, and tries again what failed.
"""

import collections
import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import signals
from benchmarks.damages import (
    DAMAGES,
    files_of,
    files_of_unfinished,
    is_of_a_step,
    kind_of,
    shrink_networks,
    small_config,
)
from benchmarks.given import make_workdir
from benchmarks.measuring import run_benchmark
from benchmarks.uses import Outcome, Uses

_DIRECTORY = flags.DEFINE_string("directory", None, "Where it goes on; None: anew.")
_FILES = flags.DEFINE_integer("files", -1, "The most damages to try; -1: all.")
_SIGNALS = flags.DEFINE_integer("signals", 60, "Number of starts that get a signal.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments.")
_WORDS = ("same", "told", "mended", "set aside", "refused", "FAULT")


class Case(NamedTuple):
    """A damage to try.

    Attributes:
      place: `finished`, `unfinished`, `comparison` or `program`: what is damaged.
      path: The file, relative to it.
      damage: A name of `DAMAGES`.
    """

    place: str
    path: str
    damage: str


def cases_of(directory: Path) -> Iterator[Case]:
    """Lists every damage of every file, those of one file beside each other."""
    compared, whole = directory / "comparison" / "whole", directory / "run" / "whole"
    places = {
        "comparison": files_of(compared, comparison=True),
        "finished": [path for path in files_of(whole) if not is_of_a_step(path)],
        "unfinished": files_of_unfinished(whole),
        "finished ": [path for path in files_of(whole) if is_of_a_step(path)],
    }
    for place, paths in places.items():
        for path in paths:
            yield from (Case(place.strip(), str(path), damage) for damage in DAMAGES)
    # Last, for these are programs of their own.
    yield from (Case("program", "compiled", damage) for damage in DAMAGES)


def try_cases(
    directory: Path, record: dict[Case, Outcome], *, most: int
) -> Iterator[tuple[Case, Outcome]]:
    """Tries what is not in the record yet, or failed.

    Args:
      directory: Where the workdirs are, or are made.
      record: What was tried.
      most: The most cases to try; any number where it is negative.

    Yields:
      Each case and how it went.
    """
    config, uses = small_config(), {}
    for place in ("run", "comparison"):
        compared, whole = place == "comparison", directory / place / "whole"
        if not whole.exists():
            made = whole.with_name("made")
            make_workdir(config, made, comparison=compared)
            made.rename(whole)
        uses[place] = Uses(config, whole, comparison=compared)
    program = functools.cache(lambda: signals.Program(directory / "program"))
    for case in cases_of(directory):
        if record.get(case, Outcome("FAULT")).word != "FAULT" or not most:
            continue
        most -= 1
        if case.place == "program":
            yield case, signals.start_with_damaged_programs(program(), case.damage)
        else:
            place = uses["comparison" if case.place == "comparison" else "run"]
            unfinished = case.place == "unfinished"
            path = Path(case.path)
            yield case, place.attempt(path, case.damage, unfinished=unfinished)


def read_record(path: Path) -> dict[Case, Outcome]:
    """Reads what was tried, and how it went the last time."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = map(json.loads, lines)
    return {Case(*row[:3]): Outcome(*row[3:]) for row in rows}


def tabulate(record: dict[Case, Outcome]) -> str:
    """Makes a Markdown table: a row a kind of file, a column a damage."""
    cells: dict[tuple[str, str], collections.Counter[str]]
    cells = collections.defaultdict(collections.Counter)
    for case, outcome in record.items():
        place = "" if case.place == "finished" else f" ({case.place})"
        for row in (f"`{kind_of(Path(case.path))}`{place}", "all"):
            cells[row, case.damage][outcome.word] += 1
    rows = sorted({row for row, _ in cells} - {"all"})
    lines = [" | ".join(["file", *DAMAGES]), "|".join(["---"] * (1 + len(DAMAGES)))]
    for row in (*rows, "all"):
        texts = []
        for damage in DAMAGES:
            found = cells[row, damage]
            counts = [f"{found[word]} {word}" for word in _WORDS if found[word]]
            texts.append(", ".join(counts))
        lines.append(" | ".join([row, *texts]))
    return "\n".join(f"| {line} |" for line in lines)


def main(argv: list[str]) -> int:
    """Tries all and prints the tables."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(_DIRECTORY.value or temporary).absolute()
        directory.mkdir(parents=True, exist_ok=True)
        faults = _damage_files(directory)
        if _SIGNALS.value:
            path, seed = directory / "signals.jsonl", _SEED.value
            program = signals.Program(directory / "program")
            faults += signals.send_all(program, path, tries=_SIGNALS.value, seed=seed)
    return int(bool(faults))


def _damage_files(directory: Path) -> int:
    path = directory / "tried.jsonl"
    record = read_record(path)
    shrink_networks()
    for case, outcome in try_cases(directory, record, most=_FILES.value):
        record[case] = outcome
        with path.open("a") as file:
            file.write(json.dumps([*case, *outcome]) + "\n")
        if outcome.word == "FAULT":
            print(f"FAULT {' '.join(case)}: {outcome.detail}", flush=True)
    faults = sum(outcome.word == "FAULT" for outcome in record.values())
    if record:
        print(f"{tabulate(record)}\n\n{len(record)} tried, {faults} faults", flush=True)
    return faults


if __name__ == "__main__":
    run_benchmark(main)
