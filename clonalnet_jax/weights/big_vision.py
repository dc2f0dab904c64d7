"""Vision transformers as Google's programs save them, by the names of ours.

Those programs, `vision_transformer` and `big_vision`, write NumPy's archives of their
Flax variables. The attention's queries, keys and values are layers of their own there,
by heads; a head is a part of one layer's width here.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

_BLOCK = re.compile(r"^params\.Transformer\.encoderblock_(\d+)\.(.*)$")
_HEADS = re.compile(r"^MultiHeadDotProductAttention_\d+\.(query|key|value)\.(\w+)$")
_OUT = re.compile(r"^MultiHeadDotProductAttention_\d+\.out\.(\w+)$")
_MLP = re.compile(r"^MlpBlock_\d+\.Dense_(\d)\.(\w+)$")
_NORM = re.compile(r"^LayerNorm_(\d+)\.(\w+)$")
_PLACES = ("params.Transformer.posembed_input.pos_embedding", "params.pos_embedding")
_OTHERS = {
    "params.cls": "params.cls_token",
    "params.embedding.kernel": "params.patch_embed.proj.kernel",
    "params.embedding.bias": "params.patch_embed.proj.bias",
    "params.Transformer.encoder_norm.scale": "params.norm.scale",
    "params.Transformer.encoder_norm.bias": "params.norm.bias",
}


def is_vit(names: Collection[str]) -> bool:
    """Whether arrays go by the names of those programs' vision transformers."""
    return any(_BLOCK.match(name) for name in names)


def rename_vit(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives arrays of a ViT with a class token the names and shapes of ours.

    Args:
      arrays: Arrays by their paths, whose parts dots join, and which begin with
        `params`. Others, such as an optimiser's, are left out.

    Returns:
      Arrays by our paths; what has no counterpart keeps its name.
    """
    found: dict[str, np.ndarray] = {}
    parts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        if not name.startswith("params."):
            continue
        if not (match := _BLOCK.match(name)):
            found[_OTHERS.get(name, name)] = array
            continue
        block, inner = f"params.blocks_{match[1]}", match[2]
        if heads := _HEADS.match(inner):
            parts.setdefault((block, heads[2]), {})[heads[1]] = array
        else:
            ours, array = _of_block(inner, array)
            found[f"{block}.{ours}"] = array
    for (block, leaf), layers in parts.items():
        found |= _joined(f"{block}.attn.qkv.{leaf}", layers)
    for name in _PLACES:
        if name in found:
            found["params.pos_embed"] = _with_class(found.pop(name), found)
    return found


def _of_block(inner: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if match := _OUT.match(inner):
        if match[1] == "kernel" and array.ndim == 3:
            array = array.reshape(-1, array.shape[-1])
        return f"attn.proj.{match[1]}", array
    if match := _MLP.match(inner):
        return f"mlp.fc{int(match[1]) + 1}.{match[2]}", array
    if match := _NORM.match(inner):
        # Layers of other kinds may be counted, too: 0 and 1, or 0 and 2.
        return f"norm{1 if match[1] == '0' else 2}.{match[2]}", array
    return inner, array


def _joined(name: str, layers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Queries, keys and values side by side; as they are where one is missing."""
    if len(layers) < 3:
        return {f"{name}.{part}": array for part, array in layers.items()}
    lead = 1 if name.endswith("kernel") else 0
    flat = [
        layers[part].reshape(*layers[part].shape[:lead], -1)
        for part in ("query", "key", "value")
    ]
    return {name: np.concatenate(flat, axis=-1)}


def _with_class(places: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Adds the class token's position, 0, where only the patches have one."""
    token = found.get("params.cls_token")
    square = round(places.shape[1] ** 0.5) ** 2 == places.shape[1]
    if token is None or places.ndim != 3 or not square:
        return places
    return np.concatenate([np.zeros_like(places[:, :1]), places], axis=1)
