"""Flax Linen networks, nothing but architecture.

A module takes images `[batch, height, width, channels]` and `train`, and returns
logits `[batch, num_classes]`; its variables are `params` and `batch_stats`.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from clonalnet_jax.errors import unknown_name
from clonalnet_jax.models.resnet_cifar import ResNetCifar

_MODELS = {
    **{
        f"resnet{depth}": partial(ResNetCifar, depth=depth)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}x4": partial(ResNetCifar, depth=depth, stem_width=32, width=64)
        for depth in (8, 32)
    },
}


def model_names() -> list[str]:
    """Every name that `create_model` knows, in the order of the documentation."""
    return list(_MODELS)


def create_model(
    name: str, num_classes: int, *, dtype: DTypeLike = jnp.float32, **options: Any
) -> nn.Module:
    """Builds a network by name.

    Args:
      name: one of `model_names()`.
      num_classes: size of the logits.
      dtype: of the computation; parameters and batch statistics stay float32.
      **options: the module's own fields, such as `width` and `stem_stride`.

    Returns:
      An unbound Flax module.

    Raises:
      UserError: the name or an option is unknown, or a value is impossible.
    """
    if name not in _MODELS:
        raise unknown_name("unknown model", name, _MODELS)
    constructor = _MODELS[name]
    known = _option_names(constructor.func)
    for option in options:
        if option not in known:
            raise unknown_name(f"unknown option of model {name}", option, known)
    model = constructor(num_classes=num_classes, dtype=dtype, **options)
    model.check()
    return model


def count_parameters(params: Mapping[str, Any]) -> int:
    """Number of trained values in a `params` tree (batch statistics not included)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _option_names(module: Any) -> list[str]:
    hidden = {"parent", "name", "num_classes", "dtype", "depth"}
    return sorted({field.name for field in dataclasses.fields(module)} - hidden)
