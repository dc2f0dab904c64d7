"""Reads what a compiled program does: its instructions, their bytes and their cycles.

XLA's own cost analysis counts the body of a loop once, and says nothing of a program
for a GPU that is not there. The text of a program says all of it.
"""

import collections
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jax

_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
# What is scheduled but does nothing, or is counted where it begins.
_FREE = re.compile(
    "parameter|constant|tuple|get-tuple-element|bitcast|after-all|partition-id"
    "|replica-id|.*-done|.*-update"
)
_COLLECTIVE = re.compile(
    "(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    "|collective-broadcast)(-start)?"
)
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?[\])}]) ([\w\-]+)\((.*)")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_SLICE = re.compile("slice|dynamic-slice")
# What a library of NVIDIA's may work in comes as the last of its results.
_WORKSPACE = re.compile(r", [su]8\[\d+\](\{0\})?\)$")
_LIBRARY = re.compile(r'custom_call_target="__cu(blas|dnn)\$')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# Of a layout, the dimensions from the innermost outwards and a TPU's tile of the last.
_TILED = re.compile(r"([\d,]+):T\(([\d,]+)\)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')
# A class keeps its own number, as MobileNetV2 does, and loses that of an instance.
_NUMBERED = re.compile(r"(?<![A-Z\d])\d+(_\d+)*$|(_\d+)+$")
# What is no layer in a path of sources: calls of functions, methods, einsums and loops.
_CALL = re.compile(r".*[(.>].*|while|body|closed_call|")


class Instruction(NamedTuple):
    """An instruction that a program schedules.

    Attributes:
      opcode: HLO's name of the operation, such as `fusion`.
      shape: HLO's text of the result, such as `bf16[8,10]{1,0}`.
      operands: Names of the operands.
      line: The whole line.
      times: How often it runs, by the trip counts of the loops around it.
    """

    opcode: str
    shape: str
    operands: tuple[str, ...]
    line: str
    times: int


class Collective(NamedTuple):
    """The collectives of one kind and type in a program.

    Attributes:
      kind: HLO's name, such as `all-reduce`.
      dtype: HLO's name of the elements' type, such as `f32`.
      number: Number of them that a call runs.
      bytes: The bytes of their results on one device, in sum.
    """

    kind: str
    dtype: str
    number: int
    bytes: int


class Contents(NamedTuple):
    """What one call of a program does on one device.

    Attributes:
      launches: Number of instructions that do something: kernels, on a GPU.
      fusions: Number of fusions among them.
      copies: Number of copies and transpositions among them.
      traffic: Bytes that they read and write by the shapes of operands and results, but
        for those in a TPU's fast memory; of what is sliced, the slices, and nothing of
        what is lent to cuBLAS and cuDNN to work in. It knows of no cache, so it is too
        high for what an L2 cache keeps.
      padding: Bytes that travel besides, since a TPU's memory holds whole tiles, by the
        number of elements of the dimension that does not fill its tile.
      cycles: The compiler's estimate, in sum; None where it gives none (all but TPUs).
      parts: The cycles, or where there are none the traffic, by the layers that cause
        them, most first. Layers that differ by a number are one part.
      collectives: The collectives by kind and type.
    """

    launches: int
    fusions: int
    copies: int
    traffic: int
    padding: dict[int, int]
    cycles: int | None
    parts: dict[str, int]
    collectives: list[Collective]

    def of_a_step(self, steps: int) -> "Contents":
        """The share of one step in a program that runs several.

        Args:
          steps: Number of steps that a call of the program runs.

        Returns:
          A step's contents, in whole numbers.
        """
        if steps == 1:
            return self
        divided = {
            name: round(value / steps)
            for name, value in self._asdict().items()
            if isinstance(value, int)
        }
        return self._replace(
            **divided,
            padding={k: round(size / steps) for k, size in self.padding.items()},
            parts={name: round(value / steps) for name, value in self.parts.items()},
            collectives=[
                one._replace(
                    number=round(one.number / steps), bytes=round(one.bytes / steps)
                )
                for one in self.collectives
            ],
        )


def read_program(compiled: jax.stages.Compiled) -> Contents:
    """Reads what a compiled program does; see `read_text`."""
    return read_text(compiled.as_text() or "")


def read_text(text: str) -> Contents:
    """Reads what a scheduled HLO module does.

    Args:
      text: The module as `Compiled.as_text` writes it.

    Returns:
      Its contents, every loop counted as often as it turns.
    """
    computations = _split(text)
    shapes = {
        found[1]: found[2]
        for lines in computations.values()
        for line in lines
        if (found := _INSTRUCTION.match(line))
    }
    listed = [
        one for one in _scheduled(computations) if not _FREE.fullmatch(one.opcode)
    ]
    moved = [_moved(one, shapes, computations) for one in listed]
    count: collections.Counter[str] = collections.Counter()
    for one in listed:
        count[one.opcode] += one.times
    traffic = [
        one.times * _size(shape) for one, shape in zip(listed, moved, strict=True)
    ]
    cycles = [one.times * _cycles(one) for one in listed]
    return Contents(
        launches=sum(count.values()),
        fusions=count["fusion"],
        copies=count["copy"] + count["copy-start"] + count["transpose"],
        traffic=sum(traffic),
        padding=_padding(listed, moved),
        cycles=sum(cycles) or None,
        parts=_parts(listed, cycles if any(cycles) else traffic),
        collectives=_collectives(listed),
    )


def communication(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes that the collectives of a program put out on one device, by kind."""
    moved: dict[str, int] = {}
    for one in read_program(compiled).collectives:
        moved[one.kind] = moved.get(one.kind, 0) + one.bytes
    return moved


def _split(text: str) -> dict[str, list[str]]:
    """The lines of each computation; the entry's key is empty."""
    computations: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line[:1].strip() and line.rstrip().endswith("{"):
            name = "" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            current = computations[name.split("(")[0]] = []
        elif " = " in line:
            current.append(line)
    return computations


def _scheduled(
    computations: Mapping[str, list[str]], name: str = "", times: int = 1
) -> Iterator[Instruction]:
    """The instructions of a computation, with those of loops, branches and calls."""
    for line in computations.get(name, ()):
        found = _INSTRUCTION.match(line)
        if not found:
            continue
        _, shape, opcode, rest = found.groups()
        if opcode == "while":
            turns = times * _turns(computations, line)
            yield from _scheduled(computations, _callee("body", line), turns)
        elif opcode == "conditional":
            branches = re.search(r"branch_computations=\{(.*?)\}", line)
            names = branches[1].split(", ") if branches else _true_false(line)
            # Which one is taken is not known: all are counted.
            for branch in names:
                yield from _scheduled(computations, branch.lstrip("%"), times)
        elif opcode == "call":
            yield from _scheduled(computations, _callee("to_apply", line), times)
        else:
            yield Instruction(opcode, shape, _operands(rest), line, times)


def _operands(rest: str) -> tuple[str, ...]:
    """The names between the brackets after an opcode."""
    return tuple(re.findall(r"%([\w.\-]+)", rest.split(")")[0]))


def _callee(role: str, line: str) -> str:
    found = re.search(rf"{role}=%?([\w.\-]+)", line)
    return found[1] if found else "no such computation"


def _true_false(line: str) -> list[str]:
    return [_callee("true_computation", line), _callee("false_computation", line)]


def _turns(computations: Mapping[str, list[str]], line: str) -> int:
    """How often a loop turns: as XLA says, or by what its condition compares with."""
    if known := _TRIPS.search(line):
        return int(known[1])
    condition = "\n".join(computations.get(_callee("condition", line), ()))
    found = re.findall(r"s32\[\]\S* constant\((\d+)\)", condition)
    return max(map(int, found), default=1)


def _arrays(shape: str) -> Iterator[str]:
    """The arrays of a shape, which may be a tuple."""
    return (found[0] for found in _ARRAY.finditer(shape))


def _size(shape: str) -> int:
    """Bytes of the elements of a shape."""
    return sum(
        _BYTES.get(dtype, 0) * math.prod(_numbers(dimensions))
        for dtype, dimensions, _ in _ARRAY.findall(shape)
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _far(shape: str) -> str:
    """The arrays that lie in the device's main memory."""
    return " ".join(array for array in _arrays(shape) if "S(1)" not in array)


def _moved(
    one: Instruction,
    shapes: Mapping[str, str],
    computations: Mapping[str, list[str]],
) -> str:
    """The arrays that an instruction reads from main memory and writes to it."""
    read = [shapes.get(name, "") for name in one.operands]
    if one.opcode in ("copy-start", "slice-start"):
        # The result is a tuple of the copy, the operand, of which a slice is read, and
        # a context.
        arrays = list(_arrays(one.shape))
        copy = arrays[0 if one.opcode == "copy-start" else 1]
        return f"{copy if _far(read[0]) else ''} {_far(copy)}"
    slices: Mapping[int, str] = {}
    if one.opcode == "fusion":
        slices = _slices(computations.get(_callee("calls", one.line), ()))
    elif _SLICE.fullmatch(one.opcode):
        slices = {0: one.shape}
    for number, part in slices.items():
        # Of a whole that lies far away, however near its slices come to lie.
        if _far(read[number]) and _size(part) < _size(read[number]):
            read[number] = part.replace("S(1)", "")
    written = one.shape
    if _LIBRARY.search(one.line):
        written = _WORKSPACE.sub(")", written)
    return " ".join(map(_far, (written, *read)))


def _slices(lines: Iterable[str]) -> dict[int, str]:
    """The slices of those operands of a fusion of which it reads nothing else."""
    numbers: dict[str, int] = {}
    users = collections.defaultdict[str, list[str]](list)
    for line in lines:
        found = _INSTRUCTION.match(line)
        if not found:
            continue
        name, shape, opcode, rest = found.groups()
        if opcode == "parameter":
            numbers[name] = int(rest.split(")")[0])
        sliced = bool(_SLICE.fullmatch(opcode))
        for place, operand in enumerate(_operands(rest)):
            users[operand].append(shape if sliced and place == 0 else "")
    return {
        number: " ".join(users[name])
        for name, number in numbers.items()
        if users[name] and all(users[name])
    }


def _cycles(one: Instruction) -> int:
    found = _CYCLES.search(one.line)
    return int(found[1]) if found else 0


def _parts(listed: list[Instruction], costs: list[int]) -> dict[str, int]:
    count: collections.Counter[str] = collections.Counter()
    for one, cost in zip(listed, costs, strict=True):
        count[_part(one.line)] += cost
    return {part: cost for part, cost in count.most_common() if cost}


def _part(line: str) -> str:
    """The layer that an instruction was traced in; of a fusion, that of its result."""
    found = _SOURCE.search(line)
    names: list[str] = []
    backward = False
    # At first is the program, and at last the operation.
    for name in found[1].split("/")[1:-1] if found else ():
        backward |= name.startswith("transpose(")
        name = name.removeprefix("transpose(").removeprefix("jvp(").rstrip(")")
        name = _NUMBERED.sub("", name)
        if not _CALL.fullmatch(name) and names[-1:] != [name]:
            names.append(name)
    return "/".join(names or ["other"]) + backward * ", backward"


def _padding(listed: list[Instruction], moved: list[str]) -> dict[int, int]:
    count: collections.Counter[int] = collections.Counter()
    for one, shape in zip(listed, moved, strict=True):
        for dtype, dimensions, layout in _ARRAY.findall(shape):
            tiled = _TILED.match(layout)
            sizes = _numbers(dimensions)
            if not tiled or 0 in sizes:
                continue
            order, tile = _numbers(tiled[1]), _numbers(tiled[2])[::-1]
            # How much more than its elements a dimension takes in whole tiles.
            factors = [
                (-(-sizes[axis] // side) * side / sizes[axis], sizes[axis])
                for axis, side in zip(order, tile, strict=False)
            ]
            whole = math.prod(factor for factor, _ in factors)
            size = _BYTES.get(dtype, 0) * math.prod(sizes)
            count[max(factors)[1]] += one.times * round(size * (whole - 1))
    return {size: padding for size, padding in count.most_common() if padding}


def _collectives(listed: list[Instruction]) -> list[Collective]:
    count: collections.Counter[tuple[str, str]] = collections.Counter()
    size: collections.Counter[tuple[str, str]] = collections.Counter()
    for one in listed:
        found = _COLLECTIVE.fullmatch(one.opcode)
        if not found:
            continue
        arrays = _ARRAY.findall(one.shape)
        if found[2] and found[1] != "all-reduce":
            # The result of a start is a pair of operand and result, and a TPU's
            # semaphores.
            arrays = [one for one in arrays if one[:2] != ("u32", "")]
            arrays = arrays[len(arrays) // 2 :]
        for dtype in dict.fromkeys(dtype for dtype, _, _ in arrays):
            key = found[1], dtype
            count[key] += one.times
            size[key] += one.times * sum(
                _size(f"{kind}[{dimensions}]")
                for kind, dimensions, _ in arrays
                if kind == dtype
            )
    return [Collective(*key, count[key], size[key]) for key in sorted(count)]
