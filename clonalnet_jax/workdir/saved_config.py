"""The config that a workdir was trained with, as this version understands it."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clonalnet_jax.configs import default
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.files import flatten
from clonalnet_jax.workdir.foreign_code import refuse_code_inside
from clonalnet_jax.workdir.sealed import read_sealed_json

_REMEDY = "restore it, or give the config that it was trained with: --config=..."


def saved_config(workdir: Path) -> ConfigDict:
    """Reads `config.json`; keys that are newer than it have their defaults.

    Args:
      workdir: Directory of a `train`, or of a `compare`, whose first seed's config is
        taken.

    Returns:
      The whole config, locked.

    Raises:
      UserError: There is no such file, it is not a config of this program, or it names
        code that lies in the workdir.
    """
    path = _path_of(workdir)
    saved = read_sealed_json(path.parent, path.name, {}, remedy=_REMEDY)
    try:
        config = resolve(saved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _foreign(path, str(error.args[0] if error.args else error)) from error
    models = (config.baseline.model, config.clone.model)
    for name in (*models, *config.methods, *config.compare.methods):
        refuse_code_inside(path.parent, name, said_by=str(path))
    return config


def resolve(saved: dict[str, Any]) -> ConfigDict:
    """Makes a config of what `config.json` holds.

    Args:
      saved: The parsed file. JSON has no tuples, so a list stands for one.

    Returns:
      The defaults with the saved values in their places, locked.

    Raises:
      KeyError: A key is unknown to this version.
      TypeError: A value has the wrong type.
    """
    config = default.get_config()
    known = flatten(config.to_dict())
    for key, value in flatten(saved).items():
        group, _, name = key.rpartition(".")
        if key in known:
            if value is None and known[key] is not None:
                raise TypeError(f"the key {key} is null")
            value = tuple(value) if isinstance(value, list) else value
        elif group not in ("baseline.options", "clone.options"):
            raise KeyError(f"the key {key}, which this version does not know")
        parent = config
        for part in group.split(".") if group else ():
            parent = parent[part]
        with parent.unlocked():
            parent[name] = value
    return config


def _path_of(workdir: Path) -> Path:
    """Finds the file, in a comparison's workdir in its first seed's."""
    path = workdir / "config.json"
    if path.exists():
        return path
    seeds = [
        seed
        for seed in workdir.glob("seed*/config.json")
        if seed.parent.name[4:].isdecimal()
    ]
    if seeds:
        return min(seeds, key=lambda seed: int(seed.parent.name[4:]))
    raise UserError(
        f"workdir {workdir}",
        got="no config.json: nothing trained there",
        expected="a directory that --mode=train has written",
        remedy="check --workdir, or give --config",
    )


def _foreign(path: Path, got: str) -> UserError:
    return UserError(
        str(path),
        got=got,
        expected="the config that this program has saved there",
        remedy=_REMEDY,
    )
