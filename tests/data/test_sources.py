"""Data sets: what is read, and what is said of a broken one."""

import numpy as np
import pytest
from PIL import Image

from clonalnet_jax.data import open_dataset
from clonalnet_jax.errors import UserError
from configs import default


@pytest.fixture
def folder(tmp_path, rng):
    """Two classes, three training and two test images each."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "ant"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
                path = tmp_path / split / name / f"{index}.png"
                Image.fromarray(pixels).save(path)
    return tmp_path


def folder_config(path, **overrides):
    config = default.get_config().data
    config.path = str(path)
    config.update(overrides)
    return config


def test_digits_are_300_and_1497_images_of_ten_classes(digits_config):
    dataset = open_dataset(digits_config.data, seed=0)
    assert (len(dataset.train), len(dataset.test)) == (300, 1497)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == tuple("0123456789")
    assert np.bincount(dataset.train.label).min() >= 20
    assert dataset.train.image.max() == 255


def test_digits_are_scikit_learns(digits_config):
    from sklearn.datasets import load_digits

    dataset = open_dataset(digits_config.data, seed=0)
    pixels = np.concatenate([dataset.train.image, dataset.test.image])[..., 0]
    labels = np.concatenate([dataset.train.label, dataset.test.label])
    ours = {(image.tobytes(), int(k)) for image, k in zip(pixels, labels, strict=True)}
    bundled = load_digits()
    theirs = np.round(bundled.images * (255 / 16)).astype(np.uint8)
    assert ours == {
        (image.tobytes(), int(k))
        for image, k in zip(theirs, bundled.target, strict=True)
    }


def test_a_folder_gives_its_images_in_the_order_of_the_class_names(folder):
    dataset = open_dataset(folder_config(folder), seed=0)
    assert dataset.class_names == ("ant", "cat")
    assert dataset.train.label.tolist() == [0, 0, 0, 1, 1, 1]
    pixels = np.asarray(Image.open(folder / "test" / "cat" / "1.png"))
    np.testing.assert_array_equal(dataset.test.image[3], pixels)


def test_examples_per_class_limits_training_only(folder):
    dataset = open_dataset(folder_config(folder, examples_per_class=1), seed=0)
    assert (len(dataset.train), len(dataset.test)) == (2, 4)


def test_holdout_takes_from_the_training_images_only(folder):
    dataset = open_dataset(folder_config(folder, holdout=2), seed=0)
    assert (len(dataset.train), len(dataset.holdout), len(dataset.test)) == (4, 2, 4)
    kept = {image.tobytes() for image in dataset.train.image}
    assert not kept & {image.tobytes() for image in dataset.holdout.image}


def remove_split(root):
    (root / "test").rename(root / "tset")


def truncate(root):
    path = root / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


def not_an_image(root):
    (root / "train" / "cat" / "1.png").write_text("hello")


def empty_class(root):
    for path in (root / "train" / "cat").iterdir():
        path.unlink()


def another_size(root):
    Image.new("RGB", (9, 8)).save(root / "train" / "cat" / "1.png")


def another_size_in_test(root):
    for path in (root / "test").rglob("*.png"):
        Image.new("RGB", (9, 8)).save(path)


def another_class(root):
    (root / "test" / "cat").rename(root / "test" / "dog")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove_split, "tset"),
        (truncate, "cat/1.png"),
        (not_an_image, "cat/1.png"),
        (empty_class, "train/cat"),
        (another_size, "9x8 pixels"),
        (another_size_in_test, r"\(8, 9, 3\)"),
        (another_class, "cat, dog"),
    ],
)
def test_a_broken_folder_is_named(folder, damage, named):
    damage(folder)
    with pytest.raises(UserError, match=named):
        open_dataset(folder_config(folder), seed=0)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"path": None}, "--config.data.path"),
        ({"path": "/nowhere"}, "/nowhere/train"),
        ({"source": "foldr"}, "did you mean 'folder'"),
        ({"source": "tfds", "name": "mnist"}, "mnist"),
        ({"source": "tfds", "name": "digits", "train_split": "trian"}, "trian"),
        ({"holdout": 6}, "config.data.holdout"),
    ],
)
def test_a_wrong_key_is_named(folder, tfds_dir, overrides, named):
    config = folder_config(folder)
    if overrides.get("source") == "tfds":
        config.path = tfds_dir
    config.update(overrides)
    with pytest.raises(UserError, match=named):
        open_dataset(config, seed=0)
