"""The networks, written in Flax Linen. This package holds only architectures.

A module takes images `[batch, height, width, channels]` and `train`, and returns
logits `[batch, num_classes]`. The layer that computes the logits is in float32,
whatever `dtype` is. The variables of a module are `params` and, if it has batch norm,
`batch_stats`. Both are float32. A path such as `layer1_0.conv1` corresponds to
`layer1.0.conv1` in the reference, so a rule converts the names of weights.

For every network, `logits_and_features` returns the features of the last stage, and
`feature_gradient` returns gradients with respect to them. See `features.py`.
`python -m clonalnet_jax.models` lists the networks with their sizes.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from clonalnet_jax.errors import UserError, unknown_name
from clonalnet_jax.models.convnext import ConvNeXt
from clonalnet_jax.models.densenet import DenseNet
from clonalnet_jax.models.efficientnet import V2_SMALL, EfficientNet, scaled
from clonalnet_jax.models.features import (
    feature_gradient,
    logits_and_features,
    marks_features,
)
from clonalnet_jax.models.import_paths import is_frozen, is_own
from clonalnet_jax.models.mobilenet import MobileNetV2
from clonalnet_jax.models.mobilenet_v3 import LARGE, SMALL, MobileNetV3
from clonalnet_jax.models.protocol import Model
from clonalnet_jax.models.regnet import RegNet
from clonalnet_jax.models.resnet import ResNet
from clonalnet_jax.models.shufflenet import ShuffleNet
from clonalnet_jax.models.swin import Swin
from clonalnet_jax.models.vgg import LargeVgg, Vgg
from clonalnet_jax.models.vit import VisionTransformer
from clonalnet_jax.models.wide_resnet import WideResNet

__all__ = [
    "count_parameters",
    "create_model",
    "eval_logits",
    "feature_gradient",
    "logits_and_features",
    "marks_features",
    "model_names",
    "native_size",
]

_bottlenecks = partial(ResNet, bottleneck=True)
_small_resnet = partial(ResNet, small_stem=True)

# Definitions of torchvision. Those of ConvNeXt, ViT and DeiT are timm's.
_IMAGENET: dict[str, partial[Any]] = {
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "resnet50": partial(_bottlenecks, (3, 4, 6, 3)),
    "resnet101": partial(_bottlenecks, (3, 4, 23, 3)),
    "resnet152": partial(_bottlenecks, (3, 8, 36, 3)),
    "resnext50_32x4d": partial(_bottlenecks, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": partial(_bottlenecks, (3, 4, 23, 3), groups=32, group_width=8),
    "wide_resnet50_2": partial(_bottlenecks, (3, 4, 6, 3), group_width=128),
    "wide_resnet101_2": partial(_bottlenecks, (3, 4, 23, 3), group_width=128),
    "mobilenet_v2": partial(MobileNetV2),
    "mobilenet_v3_large": partial(MobileNetV3, LARGE, 1280),
    "mobilenet_v3_small": partial(MobileNetV3, SMALL, 1024),
    "efficientnet_b0": partial(EfficientNet, scaled(1.0, 1.0), 32),
    "efficientnet_b1": partial(EfficientNet, scaled(1.0, 1.1), 32),
    "efficientnet_b2": partial(EfficientNet, scaled(1.1, 1.2), 32),
    "efficientnet_b3": partial(EfficientNet, scaled(1.2, 1.4), 40),
    "efficientnet_v2_s": partial(EfficientNet, V2_SMALL, 24, last=1280, epsilon=1e-3),
    "regnet_y_400mf": partial(RegNet, (1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnet_y_1_6gf": partial(RegNet, (2, 6, 17, 2), (48, 120, 336, 888), 24),
    "densenet121": partial(DenseNet, (6, 12, 24, 16)),
    "vgg16": partial(LargeVgg, (2, 2, 3, 3, 3)),
    "vgg16_bn": partial(LargeVgg, (2, 2, 3, 3, 3), batch_norm=True),
    "swin_t": partial(Swin, (2, 2, 6, 2), (3, 6, 12, 24)),
    "convnext_tiny": partial(ConvNeXt, (3, 3, 9, 3)),
    "convnext_small": partial(ConvNeXt, (3, 3, 27, 3)),
    "vit_small_patch16_224": partial(VisionTransformer, width=384, num_heads=6),
    "vit_base_patch16_224": partial(VisionTransformer, width=768, num_heads=12),
    "deit_small_patch16_224": partial(VisionTransformer, width=384, num_heads=6),
    "deit_base_patch16_224": partial(VisionTransformer, width=768, num_heads=12),
}

# RepDistiller's definitions (Tian et al. 2020). The literature has several networks
# named resnet18 with the same number of parameters. This one has a 3x3 stem and
# torchvision's names.
_SMALL_IMAGES: dict[str, partial[Any]] = {
    **{
        f"resnet{depth}": partial(_small_resnet, ((depth - 2) // 6,) * 3, width=16)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}x4": partial(
            _small_resnet, ((depth - 2) // 6,) * 3, width=64, stem_width=32
        )
        for depth in (8, 32)
    },
    "resnet18_small": partial(_small_resnet, (2, 2, 2, 2)),
    **{
        f"wrn_{depth}_{widening}": partial(WideResNet, depth, widening)
        for depth, widening in ((16, 1), (16, 2), (40, 1), (40, 2), (28, 10))
    },
    "vgg8": partial(Vgg, (1, 1, 1, 1, 1)),
    "vgg13": partial(Vgg, (2, 2, 2, 2, 2)),
    "mobilenet_v2_half": partial(MobileNetV2, half=True),
    "shufflenet_v1": partial(ShuffleNet, 1),
    "shufflenet_v2": partial(ShuffleNet, 2),
}

_MODELS: dict[str, partial[Any]] = {**_IMAGENET, **_SMALL_IMAGES}


def model_names() -> list[str]:
    """Returns every name that `create_model` knows, in the documentation's order."""
    return list(_MODELS)


def native_size(name: str) -> int:
    """Returns the side, in pixels, of the images that a network was designed for."""
    return 224 if name in _IMAGENET else 32


def create_model(
    name: str, num_classes: int, *, dtype: DTypeLike = jnp.float32, **options: Any
) -> Model:
    """Builds a network by name.

    Args:
      name: Name of the network, one of `model_names()`; or the import path of one of
        your own, such as `my_package.nets:SmallNet` (see `own`); or `frozen:<path>`, a
        file with a function that is not to be trained (see `exported`).
      num_classes: Size of the logits.
      dtype: Dtype of the computation up to the classifier. Parameters, batch statistics
        and logits are float32.
      **options: Values for fields of the network's class. Only the fields that its
        `options` names can be set, such as `width`, `small_stem` and `image_size`. A
        network of your own is called with them.

    Returns:
      An unbound Flax module, or what stands for one of your own.

    Raises:
      UserError: The name or an option is unknown, or a value is impossible.
    """
    if is_own(name):
        from clonalnet_jax.models.own import make_own

        return make_own(name, num_classes, dtype=dtype, options=options)
    if is_frozen(name):
        from clonalnet_jax.models.exported import read_exported

        return read_exported(name, num_classes)
    if name not in _MODELS:
        raise unknown_name("unknown model", name, _MODELS)
    constructor = _MODELS[name]
    module: Any = constructor.func
    for option in options:
        if option not in module.options:
            raise unknown_name(
                f"unknown option of model {name}", option, module.options
            )
    values = {"num_classes": num_classes, **options}
    fields = {field.name: field.type for field in dataclasses.fields(module)}
    for field, value in values.items():
        _check_value(name, field, value, fields[field])
    return constructor(dtype=dtype, **values)


def eval_logits(
    model: Model, variables: Any, images: Float[Array, "b h w c"]
) -> Float[Array, "b classes"]:
    """Computes logits in eval mode, with running statistics and without updates."""
    return cast(Array, model.apply(variables, images, train=False))


def count_parameters(params: Mapping[str, Any]) -> int:
    """Counts the trained values in a `params` tree, without batch statistics."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _check_value(name: str, field: str, value: object, kind: Any) -> None:
    """Refuses a value of another type than the field's: a bool, a rate or a count."""
    if kind is bool:
        valid, expected = isinstance(value, bool), "True or False"
    elif kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        valid, expected = number and 0 <= value < 1, "a rate from 0 to below 1"  # type: ignore[operator]
    else:
        count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        optional = kind is not int
        valid, expected = count or (optional and value is None), "a positive integer"
    if not valid:
        raise UserError(
            f"{name}: {field}",
            got=repr(value),
            expected=expected,
            remedy=f"set the model's option {field}",
        )
