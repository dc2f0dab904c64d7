"""The small-image networks in PyTorch, with RepDistiller's structure and names.

Written from the papers and from the reference's state dicts, because neither
torchvision nor timm has them. Import only where torch is present.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False):
    return nn.Conv2d(
        inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias
    )


def shuffle(x, groups):
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class CifarBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or inputs != width:
            self.downsample = nn.Sequential(
                conv(inputs, width, 1, stride), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class CifarResNet(nn.Module):
    def __init__(self, sizes, widths, num_classes):
        super().__init__()
        stem, *widths = widths
        self.conv1 = conv(3, stem, 3)
        self.bn1 = nn.BatchNorm2d(stem)
        inputs = stem
        self.layers = []
        for stage, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            blocks = []
            for index in range(size):
                stride = 2 if stage and not index else 1
                blocks.append(CifarBlock(inputs, width, stride))
                inputs = width
            self.layers.append(f"layer{stage + 1}")
            setattr(self, self.layers[-1], nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in self.layers:
            x = getattr(self, layer)(x)
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.convShortcut = None
        if inputs != width:
            self.convShortcut = conv(inputs, width, 1, stride)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (self.convShortcut(active) if self.convShortcut else x)


class WideResNet(nn.Module):
    def __init__(self, depth, widening, num_classes):
        super().__init__()
        self.conv1 = conv(3, 16, 3)
        inputs, size = 16, (depth - 4) // 6
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for index in range(size):
                stride = 2 if stage and not index else 1
                blocks.append(WideBlock(inputs, widening * width, stride))
                inputs = widening * width
            block = nn.Module()
            block.layer = nn.Sequential(*blocks)
            setattr(self, f"block{stage + 1}", block)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block.layer(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class Vgg(nn.Module):
    def __init__(self, size, num_classes):
        super().__init__()
        inputs = 3
        for block, width in enumerate((64, 128, 256, 512, 512)):
            layers = []
            for _ in range(size):
                layers += [conv(inputs, width, 3, bias=True), nn.BatchNorm2d(width)]
                layers += [nn.ReLU()]
                inputs = width
            setattr(self, f"block{block}", nn.Sequential(*layers))
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, x):
        pools = 4 if x.shape[-1] == 64 else 3
        for block in range(5):
            x = getattr(self, f"block{block}")(x)
            if block < pools:
                x = F.max_pool2d(x, 2)
        return self.classifier(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, width, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == width
        self.conv = nn.Sequential(
            *(conv(inputs, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU()),
            *(conv(hidden, hidden, 3, stride, hidden), nn.BatchNorm2d(hidden)),
            *(nn.ReLU(), conv(hidden, width, 1), nn.BatchNorm2d(width)),
        )

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2Half(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        expansions, widths = (1, 6, 6, 6, 6, 6, 6), (8, 12, 16, 32, 48, 80, 160)
        repeats, strides = (1, 2, 3, 4, 3, 3, 1), (1, 1, 2, 2, 1, 2, 1)
        inputs, stages = 16, []
        for t, c, n, s in zip(expansions, widths, repeats, strides, strict=True):
            blocks = []
            for index in range(n):
                blocks.append(InvertedResidual(inputs, c, 1 if index else s, t))
                inputs = c
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(stages)
        last = (conv(inputs, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU())
        self.conv2 = nn.Sequential(*last)
        self.classifier = nn.Sequential(nn.Linear(1280, num_classes))

    def forward(self, x):
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        return self.classifier(self.conv2(x).mean((2, 3)))


class Shuffle1Unit(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        added = width - inputs if stride == 2 else width
        inner, self.groups = added // 4, 1 if inputs == 24 else 3
        self.stride = stride
        self.conv1 = conv(inputs, inner, 1, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv(inner, inner, 3, stride, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv(inner, added, 1, groups=3)
        self.bn3 = nn.BatchNorm2d(added)

    def forward(self, x):
        y = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1))


class SplitUnit(nn.Module):
    def __init__(self, width):
        super().__init__()
        half = width // 2
        for index, kernel in enumerate((1, 3, 1)):
            groups = half if kernel == 3 else 1
            setattr(self, f"conv{index + 1}", conv(half, half, kernel, groups=groups))
            setattr(self, f"bn{index + 1}", nn.BatchNorm2d(half))

    def forward(self, x):
        kept, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(y)))))
        y = F.relu(self.bn3(self.conv3(y)))
        return shuffle(torch.cat([kept, y], 1), 2)


class DownUnit(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        half = width // 2
        self.conv1 = conv(inputs, inputs, 3, 2, inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = conv(inputs, half, 1)
        self.conv3 = conv(inputs, half, 1)
        self.conv4 = conv(half, half, 3, 2, half)
        self.conv5 = conv(half, half, 1)
        for index in range(2, 6):
            setattr(self, f"bn{index}", nn.BatchNorm2d(half))

    def forward(self, x):
        a = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        b = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        b = F.relu(self.bn5(self.conv5(b)))
        return shuffle(torch.cat([a, b], 1), 2)


class ShuffleNet(nn.Module):
    def __init__(self, version, num_classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 24, 1), nn.BatchNorm2d(24)
        inputs, last = 24, 960 if version == 1 else 1024
        for stage, size in enumerate((4, 8, 4)):
            width, units = (240 if version == 1 else 116) * 2**stage, []
            for index in range(size):
                if version == 1:
                    units.append(Shuffle1Unit(inputs, width, 1 if index else 2))
                else:
                    unit = SplitUnit(width) if index else DownUnit(inputs, width)
                    units.append(unit)
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*units))
        if version == 2:
            self.conv2, self.bn2 = conv(inputs, last, 1), nn.BatchNorm2d(last)
        self.linear = nn.Linear(last, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        if hasattr(self, "conv2"):
            x = F.relu(self.bn2(self.conv2(x)))
        return self.linear(x.mean((2, 3)))


def initialise(network):
    """Draws the initial values as RepDistiller does, and returns the network."""
    if isinstance(network, ShuffleNet):
        return network  # keeps PyTorch's own
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and not isinstance(network, CifarResNet):
            nn.init.zeros_(module.bias)
            if isinstance(network, (Vgg, MobileNetV2Half)):
                nn.init.normal_(module.weight, std=0.01)
    return network


def make(name, num_classes):
    """The reference of one of our small-image names, with its initial values."""
    return initialise(_build(name, num_classes))


def _build(name, num_classes):
    if name.startswith("wrn_"):
        depth, widening = map(int, name.split("_")[1:])
        return WideResNet(depth, widening, num_classes)
    if name.startswith("resnet") and name != "resnet18_small":
        depth, _, wide = name.removeprefix("resnet").partition("x")
        widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)
        return CifarResNet([(int(depth) - 2) // 6] * 3, widths, num_classes)
    return {
        "resnet18_small": lambda n: CifarResNet([2] * 4, (64, 64, 128, 256, 512), n),
        "vgg8": lambda n: Vgg(1, n),
        "vgg13": lambda n: Vgg(2, n),
        "mobilenet_v2_half": MobileNetV2Half,
        "shufflenet_v1": lambda n: ShuffleNet(1, n),
        "shufflenet_v2": lambda n: ShuffleNet(2, n),
    }[name](num_classes)
