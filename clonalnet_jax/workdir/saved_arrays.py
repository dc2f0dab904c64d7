"""The arrays of a checkpoint beside those that a network of today would have."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from clonalnet_jax.errors import UserError

_SHOWN = 4


def explain_mismatch(folder: Path, variables: Any) -> UserError | None:
    """Says how the variables of a whole checkpoint differ from those of a network.

    Args:
      folder: The folder of the step.
      variables: Variables of the network, or their shapes.

    Returns:
      The error to raise, or None if names and shapes are the same or cannot be read.
    """
    path = folder.absolute() / "model"
    try:
        saved = _shapes(ocp.StandardCheckpointHandler().metadata(path).tree)
    except Exception:  # Orbax raises many types; then it is the checkpoint's fault.
        return None
    asked = _shapes(variables)
    found = [f"{name} is new" for name in asked if name not in saved]
    found += [f"{name} is gone" for name in saved if name not in asked]
    found += [
        f"{name} was {saved[name]} and is {shape}"
        for name, shape in asked.items()
        if name in saved and saved[name] != shape
    ]
    if not found:
        return None
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return UserError(
        f"checkpoint {folder}",
        got=f"other arrays than the network has now: {'; '.join(found[:_SHOWN])}{more}",
        expected="the arrays of the network that the config names",
        remedy="if the network's code has changed, take the code that it was trained "
        "with, or train the new one in another --workdir",
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
        for path, leaf in leaves
    }
