"""Networks of ours and their references in PyTorch, as each makes them."""

import functools

import torch_bridge as bridge

from clonalnet_jax.models import create_model, model_names, native_size
from clonalnet_jax.models.mobilenet import STAGES
from clonalnet_jax.models.resnet import ResNet
from tests.shallow import FIELDS, make_shallow

torch, torchvision, timm = bridge.import_torch()
from benchmarks import torch_networks  # noqa: E402 - it imports torch, so only behind the skip

IMAGENET = [name for name in model_names() if native_size(name) == 224]
SMALL = [name for name in model_names() if native_size(name) == 32]
TIMM = ("convnext", "vit", "deit")
# One network of each kind of block.
KINDS = (
    *("resnet18", "bottleneck", "grouped", "mobilenet_v2", "convnext_tiny"),
    *("vit_small_patch16_224", "wrn_16_2", "vgg8", "mobilenet_v2_half"),
    *("shufflenet_v1", "shufflenet_v2", "mobilenet_v3_small", "efficientnet_b0"),
    *("efficientnet_v2_s", "regnet_y_400mf", "densenet121", "vgg16", "vgg16_bn"),
    *("swin_t", "deit_small_patch16_224"),
)
# The references' options that make them as shallow as ours.
_SHALLOW = {
    "mobilenet_v2": {"inverted_residual_setting": STAGES[:3]},
    "convnext_tiny": {"depths": (1,) * 4},
    "vit_small_patch16_224": {"depth": 2},
    "deit_small_patch16_224": {"depth": 2},
}


def _mobilenet_v3(num_classes):
    of_small = torchvision.models.mobilenetv3
    blocks, hidden = of_small._mobilenet_v3_conf("mobilenet_v3_small")
    return of_small.MobileNetV3(blocks[:4], hidden, num_classes=num_classes)


def _efficientnet(num_classes):
    of_b0 = torchvision.models.efficientnet
    stages, _ = of_b0._efficientnet_conf(
        "efficientnet_b0", width_mult=1.0, depth_mult=1.0
    )
    return of_b0.EfficientNet(stages[:3], 0.2, num_classes=num_classes)


def _efficientnet_v2(num_classes):
    of_v2 = torchvision.models.efficientnet
    stages, last = of_v2._efficientnet_conf("efficientnet_v2_s")
    chosen = [stages[0], stages[1], stages[2], stages[3]]
    for stage in chosen:
        stage.num_layers = 2
    norm = functools.partial(torch.nn.BatchNorm2d, eps=1e-3)
    return of_v2.EfficientNet(
        chosen, 0.2, num_classes=num_classes, norm_layer=norm, last_channel=last
    )


def _regnet(num_classes):
    of_regnet = torchvision.models.regnet
    shape = of_regnet.BlockParams([1, 2], [48, 104], [8, 8], [1.0, 1.0], [2, 2], 0.25)
    return of_regnet.RegNet(shape, num_classes=num_classes)


def _densenet(num_classes):
    return torchvision.models.DenseNet(32, (2, 3), num_classes=num_classes)


def _vgg(num_classes, *, batch_norm=False):
    layers = [64, "M", 128, 128, "M", 256, "M", 512, "M", 512, "M"]
    reference = torchvision.models.VGG(
        torchvision.models.vgg.make_layers(layers, batch_norm), num_classes=num_classes
    )
    for number, shape in {0: (512 * 49, 32), 3: (32, 32), 6: (32, num_classes)}.items():
        reference.classifier[number] = torch.nn.Linear(*shape)
        torch.nn.init.normal_(reference.classifier[number].weight, 0, 0.01)
        torch.nn.init.zeros_(reference.classifier[number].bias)
    return reference


def _swin(num_classes):
    return torchvision.models.SwinTransformer(
        *([4, 4], 96, [2, 2], [3, 6], [7, 7]), num_classes=num_classes
    )


# Those whose references are made of their parts.
_OF_PARTS = {
    "mobilenet_v3_small": _mobilenet_v3,
    "efficientnet_b0": _efficientnet,
    "efficientnet_v2_s": _efficientnet_v2,
    "regnet_y_400mf": _regnet,
    "densenet121": _densenet,
    "vgg16": _vgg,
    "vgg16_bn": functools.partial(_vgg, batch_norm=True),
    "swin_t": _swin,
}
_BOTTLENECKS = {"bottleneck": {}, "grouped": {"groups": 32, "width_per_group": 4}}


def make_pair(name, size, num_classes, **theirs):
    """Our network and its reference, as it starts; options of the reference."""
    options = {}
    if name.startswith(("vit", "deit")):
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
    if name in _OF_PARTS:
        return make_shallow(name, num_classes), _OF_PARTS[name](num_classes)
    if name not in _BOTTLENECKS:
        model, reference = make_pair(name, 32, num_classes, **_SHALLOW.get(name, {}))
        return (model.clone(**FIELDS[name]) if name in _SHALLOW else model), reference
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
