"""Networks of ours and their references in PyTorch, as each makes them."""

import torch_bridge as bridge

from clonalnet_jax.models import create_model, model_names, native_size
from clonalnet_jax.models.resnet import ResNet

torch, torchvision, timm = bridge.import_torch()
from benchmarks import torch_networks  # noqa: E402 - it imports torch, so only behind the skip

IMAGENET = [name for name in model_names() if native_size(name) == 224]
SMALL = [name for name in model_names() if native_size(name) == 32]
TIMM = ("convnext", "vit")
# One network of each kind of block.
KINDS = (
    *("resnet18", "bottleneck", "grouped", "mobilenet_v2", "convnext_tiny"),
    *("vit_small_patch16_224", "wrn_16_2", "vgg8", "mobilenet_v2_half"),
    *("shufflenet_v1", "shufflenet_v2"),
)
# Of deep ones, a few of the blocks that are alike: fields of ours, options of theirs.
_SHALLOW = {
    "convnext_tiny": ({"stage_sizes": (1,) * 4}, {"depths": (1,) * 4}),
    "vit_small_patch16_224": ({"depth": 2}, {"depth": 2}),
}
_BOTTLENECKS = {"bottleneck": {}, "grouped": {"groups": 32, "width_per_group": 4}}


def make_pair(name, size, num_classes, **theirs):
    """Our network and its reference, as it starts; options of the reference."""
    options = {}
    if name.startswith("vit"):
        options, theirs = {"image_size": size}, {"img_size": size, **theirs}
    if name in SMALL:
        reference = torch_networks.make(name, num_classes)
    elif name.startswith(TIMM):
        reference = timm.create_model(name, num_classes=num_classes, **theirs)
    else:
        reference = torchvision.models.get_model(
            name, num_classes=num_classes, **theirs
        )
    return create_model(name, num_classes, **options), reference


def make_shallow_pair(name, num_classes):
    """As `make_pair`, of a name or one of `KINDS`, no deeper than it takes."""
    if name not in _BOTTLENECKS:
        ours, theirs = _SHALLOW.get(name, ({}, {}))
        model, reference = make_pair(name, 32, num_classes, **theirs)
        return model.clone(**ours), reference
    theirs = _BOTTLENECKS[name]
    reference = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [1] * 4, num_classes=num_classes, **theirs
    )
    model = ResNet(
        (1,) * 4,
        num_classes=num_classes,
        bottleneck=True,
        groups=theirs.get("groups", 1),
        group_width=theirs.get("width_per_group", 64),
    )
    return model, reference
