"""A small workdir, its files by kind, and the ways in which one is damaged."""

import functools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clonalnet_jax.configs import default
from ml_collections import ConfigDict

from clonalnet_jax import models
from clonalnet_jax.workdir.ledger import read_ledger, write_ledger
from clonalnet_jax.workdir.saved_logits import logits_path

SETTINGS: dict[str, Any] = {
    "batch_size": 8,
    "steps": 4,
    "checkpoint_every_epochs": 0.5,
    "log_every_steps": 1,
    "methods": ("clone",),
    "baseline.model": "resnet8",
    "baseline.cache": "views",
    "clone.model": "resnet8",
    "compare.seeds": 2,
    "compare.methods": ("clone",),
    "data.synthetic": True,
    "data.synthetic_shape": (8, 8, 1),
    "data.synthetic_classes": 3,
    "data.synthetic_examples": 32,
    "data.crop_padding": 1,
}
"""Keys of the smallest run that has every kind of file, and two checkpoints a run."""

RUNS = ("baseline", "clone")
_LAST, _FIRST = "4", "2"  # the steps that are saved
# All files of these are damaged at once: nobody reads them, or not in this process.
_FOLDERS = ("compiled", "export", "report")


def shrink_networks() -> None:
    """Makes a ResNet-8 of this process one of one block: every use traces several."""
    tiny = functools.partial(models.ResNet, (1,), small_stem=True, width=4)
    models._MODELS["resnet8"] = tiny


def small_config() -> ConfigDict:
    """Returns the default config with `SETTINGS`."""
    config = default.get_config()
    for key, value in SETTINGS.items():
        group, _, name = key.rpartition(".")
        with config.unlocked():
            (config[group] if group else config)[name] = value
    return config


def cut(path: Path) -> None:
    """Cuts a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leaves nothing in a file."""
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """Flips the lowest bit in the middle of a file: of a digit, another digit."""
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_json(path: Path) -> None:
    """Writes JSON of another kind into a file."""
    path.write_text('[{"top1": "high"}, 7]')


def remove(path: Path) -> None:
    """Removes a file."""
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "emptied": empty,
    "bit flipped": flip,
    "other JSON": other_json,
    "removed": remove,
}


def files_of(workdir: Path, *, comparison: bool = False) -> list[Path]:
    """Returns every file of a workdir, relative to it, in order.

    Args:
      workdir: The workdir.
      comparison: Whether it is of a comparison, whose seeds' workdirs are left out.

    Returns:
      The files; the folders of what nobody reads stand for the files in them. With
      them is `lock.owner`, as a killed run leaves it.
    """
    found = {Path("lock.owner")}
    for path in workdir.rglob("*"):
        name = path.relative_to(workdir)
        if name.parts[0] in _FOLDERS:
            found.add(Path(name.parts[0]))
        elif path.is_file() and not (comparison and name.parts[0].startswith("seed")):
            found.add(name)
    return sorted(found)


def kind_of(path: Path) -> str:
    """Names the kind of a file: its path, without what differs from file to file."""
    name = path.as_posix() + "/" * (path.name in _FOLDERS)
    for pattern, kind in (
        (r"[0-9a-f]{32,}", "*"),
        (r"events\.out.*", "events.*"),
        (r"answers-.*\.", "answers-*."),
        (rf"(^|/)({'|'.join(RUNS)})(?=/|\.)", r"\1RUN"),
        (rf"RUN/{_LAST}/", "RUN/LAST/"),
        (rf"RUN/{_FIRST}/", "RUN/EARLIER/"),
        (r"/(model|training)/", "/ITEM/"),
    ):
        name = re.sub(pattern, kind, name)
    return name


def is_of_a_step(path: Path) -> bool:
    """Whether a file is one of a checkpoint's own, all of which its digests cover."""
    return len(path.parts) > 2 and path.parts[1].isdecimal()


def files_of_unfinished(workdir: Path) -> list[Path]:
    """Returns those of a workdir's files that no digests of a checkpoint cover."""
    gone = logits_path(workdir, "clone").relative_to(workdir)
    files = files_of(workdir)
    return [path for path in files if not is_of_a_step(path) and path != gone]


def leave_unfinished(workdir: Path) -> None:
    """Takes the clone's last checkpoint and predictions away: it has to go on."""
    shutil.rmtree(workdir / "clone" / _LAST)
    logits_path(workdir, "clone").unlink()
    entries = read_ledger(workdir / "clone") or {}
    write_ledger(workdir / "clone", {_FIRST: entries.get(_FIRST)})
