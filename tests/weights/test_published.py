"""Checkpoints that other people published reach their authors' figures.

The files and images are research data, which the repository does not hold.
"""

import tarfile
from pathlib import Path

import pytest
from clonalnet_jax.configs import default
from ml_collections import ConfigDict
from PIL import Image

from clonalnet_jax.training import story

DATA = Path(__file__).parents[3] / "shared" / "data"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PADDED = {"padded_shortcuts": True}

# Model, its options, mean and deviation, and the author's top-1 in percent.
PUBLISHED = {
    "resnet20-12fca82f.th": ("resnet20", PADDED, IMAGENET, 91.73),
    "resnet56-4bfd9763.th": ("resnet56", PADDED, IMAGENET, 93.39),
    "ckpt-kejeon.pth": ("resnet20", PADDED, CIFAR, 92.12),
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """`name -> folder`: an archive of the data, unpacked once."""
    root = tmp_path_factory.mktemp("published")

    def unpack(name):
        path = DATA / name
        if not path.is_file():
            pytest.skip(f"the research data are not here: {name}")
        with tarfile.open(path) as archive:
            archive.extractall(root, filter="data")
        return root

    return unpack


def top1(folder, weights, model, workdir, mean, std, **options):
    """Top-1 of the test split, as `main.py` measures a baseline that it is given."""
    config = default.get_config()
    config.data.path, config.data.mean, config.data.std = str(folder), mean, std
    config.data.image_size = options.pop("image_size", None)
    config.baseline.model, config.baseline.weights = model, str(weights)
    config.baseline.options = ConfigDict(options)
    config.methods = ()
    return story.train(config, workdir)["baseline"]["top1"]


@pytest.fixture(scope="module")
def cifar(unpacked):
    """The test images of CIFAR-10, which stand in for the training images, too."""
    folder = unpacked("cifar10-test-png.tar.xz") / "cifar10-test-png"
    (folder / "train").symlink_to("test")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_reaches_its_figure(
    tmp_path, unpacked, cifar, one_device, name
):
    model, options, (mean, std), expected = PUBLISHED[name]
    weights = unpacked("checkpoints.tar") / "checkpoints" / name
    reached = top1(cifar, weights, model, tmp_path, mean, std, **options)
    assert reached == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
def test_separable_convolutions_answer_as_pytorchs_do(
    tmp_path, unpacked, cifar, one_device
):
    # The author states no figure. PyTorch's functions reach this one on these images;
    # all 10,000 would take a CPU many minutes.
    for folder in sorted((cifar / "test").iterdir()):
        few = tmp_path / "test" / folder.name
        few.mkdir(parents=True)
        for path in sorted(folder.iterdir())[:20]:
            (few / path.name).symlink_to(path)
    (tmp_path / "train").symlink_to("test")
    weights = unpacked("checkpoints.tar") / "checkpoints" / "best-gasoonjia.pth"
    run = tmp_path / "runs"
    reached = top1(tmp_path, weights, "resnet110", run, *CIFAR, separable=True)
    assert reached == pytest.approx(81.5, abs=0.05)


@pytest.mark.slow
def test_mobilenet_reaches_its_figure(tmp_path, unpacked, one_device):
    # Its kernels are turned by half a turn, and so must be the photographs.
    sample = unpacked("imagenet-sample-200.tar") / "imagenet-sample"
    for path in sorted(sample.rglob("*.JPEG")):
        turned = tmp_path / "test" / path.parent.name / f"{path.stem}.png"
        turned.parent.mkdir(parents=True)
        with Image.open(path) as image:
            image.convert("RGB").rotate(180).save(turned, compress_level=1)
    (tmp_path / "train").symlink_to("test")
    name = "mobilenet_v2_qat_rot180_200classes.pth"
    weights = unpacked("checkpoints.tar") / "checkpoints" / name
    reached = top1(
        *(tmp_path, weights, "mobilenet_v2", tmp_path / "runs", (0.5,), (0.5,)),
        image_size=224,
    )
    assert reached == pytest.approx(96, abs=1)
