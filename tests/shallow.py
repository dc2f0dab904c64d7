"""Networks of a few blocks: all kinds that a definition has, compiled in a fraction."""

from flax import linen as nn

from clonalnet_jax.models import create_model, efficientnet, mobilenet, mobilenet_v3

FIELDS = {
    "resnet18": {"stage_sizes": (1,) * 4},
    "resnet50": {"stage_sizes": (1,) * 4},
    "mobilenet_v2": {"stages": mobilenet.STAGES[:3]},
    "mobilenet_v3_small": {"blocks": mobilenet_v3.SMALL[:4]},
    "efficientnet_b0": {"stages": efficientnet.scaled(1.0, 1.0)[:3]},
    "efficientnet_v2_s": {
        "stages": tuple(stage._replace(size=2) for stage in efficientnet.V2_SMALL[:4])
    },
    "regnet_y_400mf": {"sizes": (1, 2), "widths": (48, 104)},
    "densenet121": {"sizes": (2, 3)},
    "vgg16": {"block_sizes": (1, 2, 1, 1, 1), "hidden": 32},
    "vgg16_bn": {"block_sizes": (1, 2, 1, 1, 1), "hidden": 32},
    "swin_t": {"sizes": (2, 2), "num_heads": (3, 6)},
    "convnext_tiny": {"stage_sizes": (1,) * 4},
    "vit_small_patch16_224": {"depth": 2},
    "deit_small_patch16_224": {"depth": 2},
}
"""What makes a network shallow; what is missing is small or has no such field."""


def make_shallow(name: str, num_classes: int, **options: object) -> nn.Module:
    """As `create_model`, with few blocks where `FIELDS` says how."""
    model = create_model(name, num_classes, **options)
    return model.clone(**FIELDS.get(name, {}))
