"""Other spellings of the same tensors: one rule each, used only where it fits.

A name that the network has stays as it is. Any other is looked for under the spellings
below, in the order of the table, and taken if the network has such a tensor and the
file has no other for it.
"""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from clonalnet_jax.errors import UserError


class Spelling(NamedTuple):
    """How others call what our networks call after torchvision.

    Attributes:
      theirs: Pattern of a part of their names.
      ours: The text that stands there in our names, or makes it of a match.
      example: Both, as a note shows them.
    """

    theirs: str
    ours: str | Callable[[re.Match[str]], str]
    example: str


def _counted_from_one(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f".{kind}{int(match[1]) + 1}."


_SPELLINGS = (
    # ResNets of the transformers library.
    Spelling(
        r"^resnet\.embedder\.embedder\.convolution\.", "conv1.", "'embedder' is 'conv1'"
    ),
    Spelling(
        r"^resnet\.embedder\.embedder\.normalization\.", "bn1.", "'embedder' is 'bn1'"
    ),
    Spelling(
        r"^resnet\.encoder\.stages\.(\d+)\.layers\.",
        lambda match: f"layer{int(match[1]) + 1}.",
        "'stages.0.layers' is 'layer1'",
    ),
    Spelling(
        r"\.layer\.(\d+)\.convolution\.",
        _counted_from_one("conv"),
        "'layer.0.convolution' is 'conv1'",
    ),
    Spelling(
        r"\.layer\.(\d+)\.normalization\.",
        _counted_from_one("bn"),
        "'layer.0.normalization' is 'bn1'",
    ),
    Spelling(
        r"\.shortcut\.convolution\.", ".downsample.0.", "'shortcut' is 'downsample'"
    ),
    Spelling(
        r"\.shortcut\.normalization\.", ".downsample.1.", "'shortcut' is 'downsample'"
    ),
    Spelling(r"^classifier\.1\.", "fc.", "'classifier' is 'fc'"),
    # CIFAR ResNets of akamaster and of kuangliu.
    Spelling(r"^linear\.", "fc.", "'linear' is 'fc'"),
    Spelling(r"\.shortcut\.", ".downsample.", "'shortcut' is 'downsample'"),
    # torchvision's DenseNets, from when names could have dots.
    Spelling(r"\.(norm|conv)\.([12])\.", r".\1\2.", "'norm.1' is 'norm1'"),
    # A depthwise and a pointwise convolution for one (Gasoonjia).
    Spelling(
        r"(\.conv\d)\.dynamic_pool\.", r"\1.depthwise.", "'dynamic_pool' is 'depthwise'"
    ),
    Spelling(
        r"(\.conv\d)\.conv\.", r"\1.pointwise.", "'conv1.conv' is 'conv1.pointwise'"
    ),
)
_BLOCK = re.compile(r"^(layer\d+\.\d+)\.")
_FLAT = re.compile(r"^layers\.(\d+)\.")


def respell(
    names: Collection[str], wanted: Collection[str], *, source: str
) -> tuple[dict[str, str], list[str]]:
    """Finds the network's names for those of a file.

    Args:
      names: Names of the file.
      wanted: Names of the network.
      source: Name of the file, for the error.

    Returns:
      By the file's name, the network's name, or the same where there is none; and which
      spellings were used, in words.

    Raises:
      UserError: Two tensors of the file would have one name.
    """
    wanted = set(wanted)
    blocks = list(dict.fromkeys(m[1] for m in map(_BLOCK.match, wanted) if m))
    blocks.sort(key=lambda block: [int(n) for n in re.findall(r"\d+", block)])
    found: dict[str, str] = {}
    notes: set[str] = set()
    for name in names:
        ours, used = (name, []) if name in wanted else _spell(name, blocks)
        found[name] = ours if ours in wanted else name
        notes.update(used if ours in wanted else ())
    if len(set(found.values())) < len(found):
        twice = [
            f"{n} and {ours}"
            for n, ours in found.items()
            if ours != n and ours in found
        ]
        raise UserError(
            f"weights {source}",
            got=f"two tensors for one: {', '.join(twice[:10])}",
            expected="one tensor for each of the network",
            remedy="leave the other one out of the file",
        )
    return found, sorted(notes)


def _spell(name: str, blocks: list[str]) -> tuple[str, list[str]]:
    """A name in our spelling, and the rules that this took."""
    used = []
    flat = _FLAT.match(name)
    if flat and int(flat[1]) < len(blocks):
        name = f"{blocks[int(flat[1])]}.{name[flat.end() :]}"
        used.append("'layers' are the blocks of all stages")
    for spelling in _SPELLINGS:
        respelt = re.sub(spelling.theirs, spelling.ours, name)
        if respelt != name:
            name = respelt
            used.append(spelling.example)
    return name, used
