"""Data sets: what is read, and what is said of a broken one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from clonalnet_jax.configs import default
from PIL import Image

from clonalnet_jax.data import open_dataset
from clonalnet_jax.data.sources import Arrays, Images, whole_image
from clonalnet_jax.errors import UserError


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
    config.path = path and str(path)
    config.update(overrides)
    return config


def read_all(config):
    """Every example of a data set, as evaluation sees it."""
    dataset = open_dataset(config, seed=0)
    return [
        whole_image(source, index, dataset.image_shape)
        for source in (dataset.train, dataset.test)
        for index in range(len(source))
    ]


def test_digits_are_300_and_1497_images_of_ten_classes(digits_config):
    dataset = open_dataset(digits_config.data, seed=0)
    assert (len(dataset.train), len(dataset.test)) == (300, 1497)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == tuple("0123456789")
    assert np.bincount(dataset.train.labels()).min() >= 20
    assert dataset.train.images.max() == 255


def test_digits_are_scikit_learns(digits_config):
    from sklearn.datasets import load_digits

    dataset = open_dataset(digits_config.data, seed=0)
    pixels = np.concatenate([dataset.train.images, dataset.test.images])[..., 0]
    labels = np.concatenate([dataset.train.labels(), dataset.test.labels()])
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
    assert dataset.train.labels().tolist() == [0, 0, 0, 1, 1, 1]
    pixels = np.asarray(Image.open(folder / "test" / "cat" / "1.png"))
    np.testing.assert_array_equal(dataset.test[3].image, pixels)


def test_examples_per_class_limits_training_only(folder):
    dataset = open_dataset(folder_config(folder, examples_per_class=1), seed=0)
    assert (len(dataset.train), len(dataset.test)) == (2, 4)


def test_holdout_takes_from_the_training_images_only(folder):
    dataset = open_dataset(folder_config(folder, holdout=2), seed=0)
    assert (len(dataset.train), len(dataset.holdout), len(dataset.test)) == (4, 2, 4)
    kept = {image.tobytes() for image in dataset.train.images}
    assert not kept & {image.tobytes() for image in dataset.holdout.images}


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
        (another_size_in_test, "9x8 pixels"),
        (another_class, "cat, dog"),
    ],
)
@pytest.mark.parametrize("on_device", [True, False])
def test_a_broken_folder_is_named(folder, damage, named, on_device):
    damage(folder)
    with pytest.raises(UserError, match=named):
        read_all(folder_config(folder, on_device=on_device))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"path": None}, "--config.data.path"),
        ({"path": "/nowhere"}, "/nowhere"),
        ({"on_error": "skp"}, "did you mean 'skip'"),
        ({"interpolation": "bilinea"}, "did you mean 'bilinear'"),
        ({"on_device": True, "image_size": 8}, "config.data.on_device"),
        ({"color_jitter": (0.1, 0.0, 0.0, 0.0)}, "config.data.image_size"),
        ({"resize_size": 4, "image_size": 8}, "config.data.resize_size"),
        ({"threads": 0}, "config.data.threads"),
        ({"source": "tfds"}, "config.data.name"),
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


@pytest.fixture
def flat_folder(tmp_path, rng):
    """Two classes of ten images of 24x20 pixels, below no split."""
    for name in ("cat", "ant"):
        for index in range(10):
            pixels = rng.integers(256, size=(20, 24, 3), dtype=np.uint8)
            path = tmp_path / name / f"{name}{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "ant" / "0.png").write_bytes(path.read_bytes())
    return tmp_path


def test_a_folder_without_splits_is_split_alike_whatever_the_seed(flat_folder):
    config = folder_config(flat_folder)
    one, other = (open_dataset(config, seed=seed) for seed in (0, 1))
    names = [one.test.name(index) for index in range(len(one.test))]
    assert names == [other.test.name(index) for index in range(len(other.test))]
    assert np.bincount(one.test.labels()).tolist() == [2, 2]
    train = {one.train.name(index) for index in range(len(one.train))}
    assert len(train) == 17
    assert not train & set(names)
    config.split_seed = 1
    again = open_dataset(config, seed=0)
    assert names != [again.test.name(index) for index in range(len(again.test))]


def test_a_class_may_be_called_train(flat_folder):
    (flat_folder / "ant").rename(flat_folder / "train")
    with pytest.raises(UserError, match=r"config\.data\.train_split"):
        open_dataset(folder_config(flat_folder), seed=0)
    as_class = open_dataset(folder_config(flat_folder, train_split=""), seed=0)
    assert as_class.class_names == ("cat", "train")
    for path in sorted((flat_folder / "train").glob("*/*.png")):
        path.rename(flat_folder / "train" / f"moved{path.name}")
    for path in (flat_folder / "train").glob("ant*"):
        path.rmdir()
    assert open_dataset(folder_config(flat_folder), seed=0).class_names[1] == "train"


def test_too_few_images_to_split_are_named(flat_folder):
    with pytest.raises(UserError, match="0 test images"):
        open_dataset(folder_config(flat_folder, test_fraction=0.01), seed=0)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_split_are_understood(folder, name):
    (folder / "test").rename(folder / name)
    assert len(open_dataset(folder_config(folder), seed=0).test) == 4


def test_hidden_files_are_passed_over(folder):
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "ant" / "._0.png").write_text("resource fork")
    assert len(open_dataset(folder_config(folder), seed=0).train) == 6


@pytest.mark.parametrize("on_device", [None, True])
def test_small_images_of_one_size_lie_in_memory(folder, on_device):
    dataset = open_dataset(folder_config(folder, on_device=on_device), seed=0)
    assert isinstance(dataset.train, Arrays)


@pytest.mark.parametrize("overrides", [{"on_device": False}, {"image_size": 6}])
def test_other_images_are_read_when_they_are_asked_for(folder, overrides):
    dataset = open_dataset(folder_config(folder, **overrides), seed=0)
    assert isinstance(dataset.train, Images)
    side = overrides.get("image_size", 8)
    assert dataset.image_shape == dataset.train[0].image.shape == (side, side, 3)


def test_large_data_sets_are_not_put_in_memory(folder, monkeypatch):
    monkeypatch.setattr(
        "clonalnet_jax.data.dataset._ON_DEVICE_BYTES", 10 * 8 * 8 * 3 - 1
    )
    assert isinstance(open_dataset(folder_config(folder), seed=0).train, Images)


def many_images(root, rng):
    for split in ("train", "test"):
        for index in range(100):
            pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "ant" / f"more{index}.png")


def test_unreadable_images_are_skipped_and_named_on_request(folder, rng):
    many_images(folder, rng)
    truncate(folder)
    dataset = open_dataset(folder_config(folder, on_error="skip"), seed=0)
    assert (len(dataset.train), len(dataset.test)) == (105, 104)
    assert dataset.notes == (f"SKIPPED image {folder}/train/cat/1.png",)
    names = [dataset.train.name(index) for index in range(len(dataset.train))]
    assert names[-1].endswith("2.png")
    for index, name in enumerate(names):
        np.testing.assert_array_equal(dataset.train[index].image, Image.open(name))


def test_too_many_unreadable_images_stop_the_run(folder):
    truncate(folder)
    with pytest.raises(UserError, match="1 of 6"):
        open_dataset(folder_config(folder, on_error="skip"), seed=0)


def test_a_tfds_data_set_that_is_prepared_needs_no_builder(digits_config, tmp_path):
    open_dataset(digits_config.data, seed=0)
    # Under another name, the way a data set of somebody else's looks.
    source = next(Path(digits_config.data.path).glob("digits/*"))
    target = tmp_path / "figures" / "1.0.0"
    shutil.copytree(source, target)
    for path in (target / "dataset_info.json", target / "features.json"):
        path.write_text(path.read_text().replace("digits", "figures"))
    for path in target.glob("digits-*"):
        path.rename(target / path.name.replace("digits", "figures"))
    digits_config.data.update({"name": "figures", "path": str(tmp_path)})
    assert len(open_dataset(digits_config.data, seed=0).test) == 1497
    digits_config.data.train_split = "train[:10%]"
    assert len(open_dataset(digits_config.data, seed=0).train) == 30


@pytest.mark.parametrize("image_size", [None, 16])
def test_synthetic_images_have_the_shape_and_classes_asked_for(image_size):
    config = folder_config(
        None,
        synthetic=True,
        synthetic_shape=(20, 24, 3),
        synthetic_classes=7,
        synthetic_examples=30,
        image_size=image_size,
    )
    dataset = open_dataset(config, seed=0)
    assert dataset.num_classes == 7
    assert (len(dataset.train), len(dataset.test)) == (30, 30)
    assert dataset.image_shape == ((16, 16, 3) if image_size else (20, 24, 3))
    assert (dataset.train[0].image != dataset.test[0].image).any()
    np.testing.assert_array_equal(dataset.train[3].image, dataset.train[3].image)
