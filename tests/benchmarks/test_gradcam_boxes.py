"""The share of peaks inside boxes, on images whose objects are known."""

import subprocess
import sys
from types import SimpleNamespace

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from benchmarks import gradcam_boxes
from clonalnet_jax.errors import UserError
from clonalnet_jax.models.features import tap
from clonalnet_jax.trained.classifier import Classifier
from clonalnet_jax.trained.network import Network

WNIDS = ("n01", "n02", "n03")
SIZE, PATCH = 32, 8


class Colour(nn.Module):
    """Red, green or blue, each seen where it is."""

    @nn.compact
    def __call__(self, images, *, train):
        """Images to three logits."""
        return tap(self, nn.avg_pool(images, (8, 8), (8, 8))).mean(axis=(1, 2))


def write(root, name, *patches):
    """An image that is black but for patches `(channel, x, y)`."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    for channel, x, y in patches:
        pixels[y : y + PATCH, x : x + PATCH, channel] = 200 if channel < 2 else 250
    Image.fromarray(pixels).save(root / "val" / "images" / name, quality=95)


@pytest.fixture
def data(tmp_path):
    """Two right answers and three wrong ones; one of each looks beside the object."""
    (tmp_path / "val" / "images").mkdir(parents=True)
    # Not in order: labels follow the sorted ids.
    (tmp_path / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    write(tmp_path, "a.png", (0, 0, 0))  # red, right, inside
    write(tmp_path, "b.png", (1, 24, 24))  # green, right, outside
    write(tmp_path, "c.png", (0, 0, 24), (2, 24, 0))  # called blue, inside
    write(tmp_path, "d.png", (2, 8, 8))  # called blue, inside
    write(tmp_path, "e.png", (2, 8, 8))  # called blue, outside
    lines = [
        ("a.png", "n01", 0, 0, 15, 31),  # a half of the image
        ("b.png", "n02", 0, 0, 15, 15),  # a quarter
        ("c.png", "n01", 24, 0, 31, 7),  # a sixteenth
        ("d.png", "n02", 8, 8, 15, 15),  # a sixteenth
        ("e.png", "n02", 16, 16, 32, 32),  # a quarter; the corner is beyond the edge
    ]
    text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    (tmp_path / "val" / "val_annotations.txt").write_text(text)
    return tmp_path


@pytest.mark.parametrize("enlarged", [1, 2])
def test_shares_are_those_of_the_images(data, enlarged):
    examples = gradcam_boxes.read_boxes(data, 3)
    assert [example.label for example in examples] == [0, 1, 0, 1, 1]
    meta = SimpleNamespace(image_shape=(enlarged * SIZE, enlarged * SIZE, 3))
    classifier = Classifier(Network(Colour(), {}, meta), (0.0,), (1.0,))
    shares = gradcam_boxes.measure(classifier, examples)
    assert shares.wrong_images == 3
    assert shares.wrong_inside == pytest.approx(100 * 2 / 3)
    assert shares.wrong_area == pytest.approx(100 * (1 / 16 + 1 / 16 + 1 / 4) / 3)
    assert shares.right_inside == pytest.approx(50)
    assert shares.right_area == pytest.approx(100 * 3 / 8)


def test_other_data_than_the_network_s_are_refused(data):
    with pytest.raises(UserError, match="3 classes"):
        gradcam_boxes.read_boxes(data, 200)
    with pytest.raises(UserError, match=r"no wnids\.txt"):
        gradcam_boxes.read_boxes(data / "val", 3)


def test_workdir_without_networks_is_one_message(tmp_path):
    command = [sys.executable, gradcam_boxes.__file__, f"--workdir={tmp_path}"]
    ended = subprocess.run(
        [*command, "--data=elsewhere"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"ERROR: --workdir={tmp_path}\n")
    assert "no finished network" in ended.stderr
