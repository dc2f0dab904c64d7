"""How easily a stranger finds the way: rooms, floors, circles, sizes and prose.

    python benchmarks/house.py [DIRECTORY_OF_THE_PACKAGE]

A room is a module at the package's root or a sub-package, whatever lies in it. A room
stands one floor above the highest room that it imports, imports inside functions
included; what a file imports only when it is run as a program does not count.
`tests/test_house.py` holds what is a rule.
"""

import ast
import graphlib
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "clonalnet_jax"
# How an argument's description begins that is no phrase of its own.
_FRAGMENT = re.compile(
    r"(?:of|that|what|where|which|as|see|likewise|whose|whom|how many|from|by|in|to|"
    r"with|without|for|at|on|if|than|when|told|picks|gives|makes|draws|builds|over|per|stands|only)\b",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(r"^(\s+)(\*{0,2}\w+): (.*)$")


class House(NamedTuple):
    """What `survey` counts.

    Attributes:
      root: Names of the modules at the package's root.
      rooms: By room, the rooms that it imports.
      sizes: By file, its lines.
      functions: Lines of every function.
      descriptions: Argument descriptions in docstrings.
      fragments: Those that begin as a fragment, with their place.
      configs: Calls that hand a whole config on.
    """

    root: list[str]
    rooms: dict[str, set[str]]
    sizes: dict[str, int]
    functions: list[int]
    descriptions: int
    fragments: list[str]
    configs: int

    def floors(self) -> int:
        """Length of the longest chain of imports; raises `CycleError` in a circle."""
        height: dict[str, int] = {}
        for room in graphlib.TopologicalSorter(self.rooms).static_order():
            below = (height[other] for other in self.rooms[room])
            height[room] = 1 + max(below, default=0)
        return max(height.values())


def survey(package: Path = PACKAGE) -> House:
    """Reads a package's source.

    Args:
      package: Its directory; nothing of it is imported.

    Returns:
      The counts.
    """
    files = {
        path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))
    }
    root = [p.stem for p in files if p.parent == package and p.stem != "__init__"]
    rooms: dict[str, set[str]] = {}
    for path, tree in files.items():
        # The doors of `__init__` open when they are asked for; it is no room.
        if path != package / "__init__.py":
            room = path.relative_to(package).parts[0].removesuffix(".py")
            rooms.setdefault(room, set()).update(_imports(tree, package.name))
    for room, others in rooms.items():
        others.intersection_update(rooms.keys() - {room})
    nodes = [node for tree in files.values() for node in ast.walk(tree)]
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef)]
    described = [item for p, tree in files.items() for item in _descriptions(p, tree)]
    return House(
        root=root,
        rooms=rooms,
        sizes={str(p.relative_to(package)): _lines(p) for p in files},
        functions=[(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions],
        descriptions=len(described),
        fragments=[place for place, text in described if _FRAGMENT.match(text)],
        configs=sum(_hands_config_on(node) for node in nodes),
    )


def main() -> None:
    """Prints the counts."""
    house = survey(*map(Path, sys.argv[1:2]))
    long_files = [name for name, lines in house.sizes.items() if lines > 300]
    try:
        floors: int | str = house.floors()
    except graphlib.CycleError as error:
        floors = f"a circle: {' -> '.join(error.args[1])}"
    print(f"modules at the root: {len(house.root)}")
    print(f"rooms: {len(house.rooms)}")
    print(f"floors: {floors}")
    print(f"imports between rooms: {sum(map(len, house.rooms.values()))}")
    print(f"calls that hand a whole config on: {house.configs}")
    print(
        f"files: {len(house.sizes)}, over 300 lines: {', '.join(long_files) or 'none'}"
    )
    over = sum(lines > 40 for lines in house.functions)
    print(
        f"functions: {len(house.functions)}, median "
        f"{statistics.median(house.functions):g} lines, over 40 lines: {over}"
    )
    print(
        f"argument descriptions that begin as a fragment: {len(house.fragments)} of "
        f"{house.descriptions}"
    )


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The rooms that a file imports, but for those of a program of its own."""
    body = [node for node in ast.iter_child_nodes(tree) if not _is_program(node)]
    for node in (node for part in body for node in ast.walk(part)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                yield parts[1]


def _is_program(node: ast.AST) -> bool:
    """Whether a statement is `if __name__ == "__main__": ...`."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _descriptions(path: Path, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Place and text of every description under `Args:` and `Attributes:`."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    for node in (n for n in ast.walk(tree) if isinstance(n, kinds)):
        inside = False
        for line in (ast.get_docstring(node, clean=False) or "").splitlines():
            if line.strip().endswith(":") and line.strip() in _SECTIONS:
                inside = line.strip() in ("Args:", "Attributes:")
                indent = len(line) - len(line.lstrip()) + 2
            elif (
                inside and (match := _ARGUMENT.match(line)) and len(match[1]) == indent
            ):
                name, text = match.groups()[1:]
                yield f"{path.name}: {node.name}: {name}: {text}", text


_SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:")


def _hands_config_on(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return any(
        getattr(value, "id", None) == "config" or getattr(value, "attr", "") == "config"
        for value in given
    )


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


if __name__ == "__main__":
    main()
