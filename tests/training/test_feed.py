"""The same batches, whether they are gathered on the devices or streamed to them."""

import jax
import numpy as np
import pytest
from PIL import Image

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.experiment import BASELINE, OTHERS, open_experiment


@pytest.fixture
def digits(digits_config, tmp_path):
    def opened(on_device):
        digits_config.data.on_device = on_device
        return open_experiment(digits_config, tmp_path)

    return opened


def assert_same(found, expected):
    found, expected = (
        list(map(jax.device_get, batches)) for batches in (found, expected)
    )
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_training_batches_are_the_same_on_the_device_and_streamed(digits):
    gathered, streamed = (
        digits(on_device).train_batches(stream=OTHERS, start_step=2)
        for on_device in (True, False)
    )
    assert_same(gathered, streamed)


def test_evaluation_counts_the_same_images_on_the_device_and_streamed(digits):
    counted = []
    for on_device in (True, False):
        experiment = digits(on_device)
        batches = list(experiment.feed(experiment.dataset.test).once(batch_size=400))
        assert len(batches[0]["label"].sharding.device_set) == 8
        mask = np.concatenate([batch["mask"] for batch in batches])
        labels = np.concatenate([batch["label"] for batch in batches])
        counted.append(labels[mask == 1])
    np.testing.assert_array_equal(*counted)
    np.testing.assert_array_equal(counted[0], experiment.dataset.test.labels())


@pytest.fixture
def broken_folder(digits_config, tmp_path, rng):
    """120 training images, the second of which is cut off; 8 test images."""
    for split, count in (("train", 60), ("test", 4)):
        for name in ("ant", "cat"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    path = tmp_path / "images" / "train" / "ant" / "01.png"
    path.write_bytes(path.read_bytes()[:60])
    digits_config.data.update(
        {
            "source": "folder",
            "path": str(tmp_path / "images"),
            "on_device": False,
            "on_error": "skip",
        }
    )
    digits_config.batch_size = 8
    return path


def test_skipped_images_are_reported_after_every_epoch(
    digits_config, broken_folder, tmp_path, capsys
):
    digits_config.steps = 2 * 120 // 8
    experiment = open_experiment(digits_config, tmp_path)
    assert len(list(experiment.train_batches(stream=BASELINE, start_step=0))) == 30
    assert capsys.readouterr().out.count("SKIPPED 1 of 120 images") == 2


def test_more_than_one_percent_skipped_stops_the_run(
    digits_config, broken_folder, tmp_path
):
    for name in ("00.png", "05.png"):
        broken_folder.with_name(name).write_text("no image")
    experiment = open_experiment(digits_config, tmp_path)
    with pytest.raises(UserError, match="of 120"):
        list(experiment.train_batches(stream=BASELINE, start_step=0))
