"""A folder of images, and a network that PyTorch has trained on them."""

import numpy as np
import pytest
import torch_bridge as bridge
from PIL import Image

SIZE, CLASSES = 48, ("ant", "bee", "cat")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Three classes that differ in colour, so that little training tells them apart."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for channel, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(100, size=(SIZE, SIZE, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                path = root / split / name / f"{index}.png"
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, folder):
    """A torchvision ResNet-18 trained in PyTorch on these images, as a .pth file."""
    torch, torchvision, _ = bridge.import_torch()
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=len(CLASSES)).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    files = sorted((folder / "train").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path), np.float32) for path in files])
    images = bridge.nchw(torch, (pixels / 255 - 0.5) / 0.25)
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in files])
    for _ in range(8):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return path
