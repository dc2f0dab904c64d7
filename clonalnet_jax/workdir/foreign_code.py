"""Code of a user's own that lies in a workdir, which somebody else may have made.

A workdir names networks and losses by import path, and naming them runs them. So they
may be anywhere on Python's path, but not in the workdir itself: to open a workdir that
was downloaded must not run what came with it.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from clonalnet_jax.errors import UserError


def refuse_code_inside(workdir: Path, name: object, *, said_by: str) -> None:
    """Refuses an import path whose module lies in a workdir; imports nothing.

    Args:
      workdir: Directory of a `train`, or `seed<number>` in one of a `compare`, which
        then counts as a whole.
      name: Name of a network or method; one that is no import path is let through.
      said_by: The file that holds the name, for the message.

    Raises:
      UserError: The module, or a package around it, lies there.
    """
    # Not by `models.import_paths.is_own`: the command line asks here before JAX may be
    # imported. This is wider, so what is an import path there is one here.
    module, colon, _ = str(name).partition(":")
    if not colon or not all(module.split(".")):
        return
    if workdir.name.startswith("seed") and workdir.name[4:].isdecimal():
        workdir = workdir.parent
    # A link in the workdir counts as what came with it, wherever it leads.
    roots = {os.path.abspath(workdir), os.path.realpath(workdir)}
    for place in _places(module):
        for path in (os.path.abspath(place), os.path.realpath(place)):
            if any(Path(path).is_relative_to(root) for root in roots):
                raise UserError(
                    f"{said_by}: {name}",
                    got=f"its code lies in the workdir: {place}",
                    expected="code of your own, outside of the workdir",
                    remedy="if you trust it, move it elsewhere and set PYTHONPATH to "
                    "that directory",
                )


def _places(module: str) -> Iterator[str]:
    """Yields the files and directories of a module and of the packages around it."""
    within: list[str] | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = _find_spec(".".join(parts[:count]), within)
        if spec is None:
            return
        within = list(spec.submodule_search_locations or ())
        if spec.has_location and spec.origin:
            yield spec.origin
        yield from within


def _find_spec(
    name: str, within: list[str] | None
) -> importlib.machinery.ModuleSpec | None:
    """Finds a module. Python's own `find_spec` would import the packages around it."""
    loaded = sys.modules.get(name)
    file = getattr(loaded, "__file__", None)
    if file is not None:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is not None:
            spec.submodule_search_locations = [*getattr(loaded, "__path__", ())]
        return spec
    if within is None:
        return importlib.util.find_spec(name) if loaded is None else None
    # By its last part: a namespace's whole name would ask for the imported parent.
    return importlib.machinery.PathFinder.find_spec(name.rpartition(".")[2], within)
