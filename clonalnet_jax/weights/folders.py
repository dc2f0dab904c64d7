"""Folders of weights as the Hugging Face hub has them: files, shards, config.json."""

import json
from pathlib import Path
from typing import Any

from clonalnet_jax.errors import UserError

INDEX = "model.safetensors.index.json"
"""The name of the file that says which shard of a network holds which tensor."""

# What the hub calls weights, the safest first.
_NAMES = ("model.safetensors", INDEX, "pytorch_model.bin")


def file_in(folder: Path) -> Path:
    """Finds the file of the weights in a folder.

    Args:
      folder: A folder as `save_pretrained` writes it, or as the hub has it.

    Returns:
      A file of tensors, or the index of several.

    Raises:
      UserError: There is none.
    """
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path.name for path in folder.iterdir())
    raise UserError(
        f"weights {folder}",
        got=f"a folder of {', '.join(found[:8]) or 'nothing'}",
        expected=f"one of {', '.join(_NAMES)} in it, or a .safetensors or .pth file",
        remedy="name the file itself: --config.baseline.weights=FOLDER/FILE",
    )


def shards_of(index: Path) -> list[Path]:
    """Reads which files hold the tensors of a network.

    Args:
      index: The file `model.safetensors.index.json` of a folder.

    Returns:
      The files, each once.

    Raises:
      UserError: It is damaged, names a file of another folder, or one is missing.
    """
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, f"{type(error).__name__}: {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise _damaged(index, f"{name!r}, which is no name of a file beside it")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"weights {index}",
            got=f"{len(missing)} of {len(names)} files are missing: {missing[0]}",
            expected="all of them beside it",
            remedy="download the whole folder",
        )
    return [index.parent / name for name in names]


def architecture_in(folder: Path) -> str:
    """Reads what `config.json` calls the network.

    Args:
      folder: The folder of the weights.

    Returns:
      The name, such as timm's `resnet18`; empty where there is none.
    """
    try:
        content: Any = json.loads((folder / "config.json").read_bytes())
        return str(content.get("architecture", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _damaged(index: Path, got: str) -> UserError:
    return UserError(
        f"weights {index}",
        got=got,
        expected='{"weight_map": {"name of a tensor": "name of a file"}}',
        remedy="download it again",
    )
