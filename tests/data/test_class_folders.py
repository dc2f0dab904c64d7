"""What is a class, what a split and what neither, in folders as people have them."""

import io
import os
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from clonalnet_jax.configs import default, folder
from PIL import Image
from rich.console import Console

from clonalnet_jax.data.check import check, show
from clonalnet_jax.data.class_folders import open_folder
from clonalnet_jax.data.dataset import open_dataset
from clonalnet_jax.errors import UserError
from clonalnet_jax.trained.predict import _find

CASES = Path(__file__).parents[3] / "shared" / "cases"


def write(path, count=1):
    """Writes an image, or so many numbered ones into a folder."""
    if count == 1 and path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(zlib.crc32(str(path).encode()))
        Image.fromarray(pixels.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)
        return
    for index in range(count):
        write(path / f"{index}.png")


@pytest.fixture
def splits(tmp_path):
    """Three classes in two splits."""
    root = tmp_path / "data"
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog", "fox"):
            write(root / split / name, count)
    return root


@pytest.fixture
def flat(tmp_path):
    """Two classes of ten images below no split."""
    root = tmp_path / "data"
    for name in ("cat", "dog"):
        write(root / name, 10)
    return root


def config_of(root, **overrides):
    config = default.get_config().data
    config.path = str(root)
    config.update(overrides)
    return config


def notes(root, **overrides):
    return "\n".join(open_dataset(config_of(root, **overrides), seed=0).notes)


@pytest.mark.parametrize("name", ["class_distribution.png", "._overview.png"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_picture_beside_the_class_folders_makes_no_class(splits, name, split):
    write(splits / split / name)
    train, test = open_folder(splits)
    assert train.class_names == test.class_names == ("cat", "dog", "fox")
    assert (len(train.records), len(test.records)) == (12, 6)
    assert f"{splits}/{split}: 1 " in notes(splits)
    assert name in notes(splits)
    assert check(config_of(splits)).notes == (*train.notes, *test.notes)


def test_a_picture_in_a_flat_folder_makes_no_class(flat):
    write(flat / "overview.png")
    assert open_folder(flat)[0].class_names == ("cat", "dog")
    assert "1 image beside the class folders (overview.png)" in notes(flat)


@pytest.mark.parametrize("classes_in", [(), ("test",), ("train",)])
def test_splits_of_loose_pictures_are_refused_and_told_apart(tmp_path, classes_in):
    for split in ("train", "test"):
        write(tmp_path / split, 5)
    for split in classes_in:
        for name in ("cat", "dog"):
            write(tmp_path / split / name, 3)
    with pytest.raises(UserError) as caught:
        open_folder(tmp_path)
    assert "holds 5 images and no class folders" in str(caught.value)
    assert "one folder for each class" in str(caught.value) or (
        f"--config.data.path={tmp_path}/train" in str(caught.value)
    )


def test_splits_of_other_names_are_no_classes_for_a_loose_picture(splits):
    (splits / "train").rename(splits / "first")
    (splits / "test").rename(splits / "second")
    write(splits / "first" / "overview.png")
    with pytest.raises(UserError, match=r"holds first, second"):
        open_folder(splits)
    named = open_folder(splits, train_split="first", test_split="second")
    assert named[0].class_names == ("cat", "dog", "fox")
    classes = open_folder(splits, train_split="")[0]
    assert classes.class_names == ("first", "second")


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "__MACOSX", ".ipynb"])
def test_folders_of_systems_are_hidden_and_counted(flat, name):
    write(flat / "cat" / name, 3)
    write(flat / name, 3)
    train, test = open_folder(flat)
    assert train.class_names == ("cat", "dog")
    assert len(train.records) + len(test.records) == 20
    assert f"2 hidden files or folders ({name}, cat/{name})" in notes(flat)


@pytest.mark.parametrize("spare", ["valid", "val", "validation"])
def test_an_empty_test_split_names_the_one_that_is_not(splits, spare):
    (splits / "test").rename(splits / spare)
    (splits / "test").mkdir()
    with pytest.raises(UserError, match=f"--config.data.test_split={spare}"):
        open_folder(splits)
    for name in (spare, "val"):
        assert len(open_folder(splits, test_split=name)[1].records) == 6


def test_a_folder_beside_the_splits_is_named(splits):
    write(splits / "unlabelled", 3)
    assert "1 folder beside the splits (unlabelled)" in notes(splits)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (
            unicodedata.normalize("NFC", "café"),
            unicodedata.normalize("NFD", "café"),
            "NFC and NFD",
        ),
        ("Cafe", "cafe", "upper and lower case"),
    ],
)
def test_names_that_look_alike_are_explained(splits, train, test, said):
    (splits / "train/cat").rename(splits / "train" / train)
    (splits / "test/cat").rename(splits / "test" / test)
    with pytest.raises(UserError, match=said):
        open_folder(splits)


def test_two_classes_that_look_the_same_are_refused(flat):
    for form in ("NFC", "NFD"):
        write(flat / unicodedata.normalize(form, "café"), 10)
    with pytest.raises(UserError, match="NFC and NFD"):
        open_folder(flat)


def test_a_class_whose_name_is_not_utf_8_is_refused_in_ascii(flat):
    os.rename(flat / "cat", os.fsencode(flat) + b"/ch\xefen")
    with pytest.raises(UserError) as caught:
        open_folder(flat)
    assert r"ch\udcefen" in str(caught.value)
    str(caught.value).encode()


def test_files_whose_names_are_not_utf_8_are_read_and_printed(many):
    os.rename(many / "train/cat/0.png", os.fsencode(many) + b"/train/cat/\xef.png")
    os.rename(many / "train/cat/1.png", os.fsencode(many) + b"/train/cat/\xef.heic")
    (many / "train/cat/2.png").unlink()
    dangling(Path(os.fsdecode(os.fsencode(many) + b"/train/cat/\xee.png")))
    opened = open_dataset(config_of(many, on_error="skip"), seed=0)
    assert r"\xee.png" in "".join(opened.notes)
    "".join(opened.notes).encode()
    console = Console(file=io.StringIO())
    show(check(config_of(many)), console)
    console.file.getvalue().encode()


@pytest.mark.parametrize("name", ["猫", "عصفور", "собака", "🐟 fish", "two\nlines"])
def test_classes_have_any_other_name(flat, name):
    (flat / "dog").rename(flat / name)
    assert set(open_folder(flat)[0].class_names) == {"cat", name}


@pytest.mark.parametrize("place", ["runs", "runs/folder", "runs/a/b", "experiment"])
@pytest.mark.parametrize(
    "files",
    [("lock",), ("lock", "config.json"), ("config.json", "environment.json", "x.png")],
)
def test_the_directory_of_a_training_is_no_class(flat, place, files):
    workdir = flat / place
    workdir.mkdir(parents=True)
    for name in files:
        (workdir / name).write_text("")
    write(workdir / "baseline" / "profile", 0)
    if "lock" not in files:
        write(workdir / "report" / "figure.png")
    train, test = open_folder(flat)
    assert train.class_names == ("cat", "dog")
    assert len(train.records) + len(test.records) == 20
    assert f"1 directory of a training ({place})" in notes(flat)


def test_the_directory_of_a_training_in_a_class_gives_it_no_images(flat):
    write(flat / "cat" / "runs" / "report" / "figure.png")
    for name in ("config.json", "environment.json"):
        (flat / "cat" / "runs" / name).write_text("{}")
    train, test = open_folder(flat)
    assert len(train.records) + len(test.records) == 20


@pytest.mark.parametrize(
    ("ending", "format"),
    [
        ("gif", "GIF"),
        ("tif", "TIFF"),
        ("tiff", "TIFF"),
        ("jfif", "JPEG"),
        ("jpe", "JPEG"),
        ("ppm", "PPM"),
        ("avif", "AVIF"),
        ("jp2", "JPEG2000"),
    ],
)
def test_images_of_every_ending_are_read(flat, ending, format):
    Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow has no {format}")
    Image.new("RGB", (8, 8), "red").save(flat / "cat" / f"more.{ending}", format)
    train, test = open_folder(flat)
    assert len(train.records) + len(test.records) == 21
    found = check(config_of(flat))
    assert found.counts.sum() == 21
    assert not found.unreadable


def test_files_of_other_endings_are_counted_by_ending(flat):
    for name in ("a.heic", "b.HEIC", "c.txt", "README"):
        (flat / "cat" / name).write_text("")
    said = "4 files that end as no image (2 .heic, 1 .txt, 1 without)"
    assert said in notes(flat)
    assert any(said in note for note in check(config_of(flat)).notes)


@pytest.fixture
def many(splits):
    """So many images that one of them may be skipped."""
    for split in ("train", "test"):
        write(splits / split / "cat", 120)
    return splits


def dangling(path):
    path.symlink_to("/nowhere/x.jpg")


def pipe(path):
    os.mkfifo(path)


def link_to_itself(path):
    path.symlink_to(path)


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (dangling, "a link to /nowhere/x.jpg, which is not there"),
        (pipe, "a pipe"),
        (link_to_itself, "a link to"),
        (link_to_a_device, "a device"),
    ],
)
@pytest.mark.parametrize("image_size", [None, 8])
def test_what_is_no_file_is_named_skipped_and_listed(many, make, said, image_size):
    path = many / "train" / "cat" / "0.png"
    path.unlink()
    make(path)
    with pytest.raises(UserError, match=said):
        open_dataset(config_of(many, image_size=image_size), seed=0)
    opened = open_dataset(
        config_of(many, on_error="skip", image_size=image_size), seed=0
    )
    assert len(opened.train) == (128 if image_size else 127)
    found = check(config_of(many))
    assert found.counts.sum() == 128 + 124
    ((name, reason),) = found.unreadable
    assert name == str(path)
    assert said in reason


def test_a_class_that_is_a_link_to_nothing_is_named(splits):
    (splits / "train" / "owl").symlink_to("/nowhere/owl")
    with pytest.raises(UserError, match="/nowhere/owl"):
        open_folder(splits)


def test_links_to_folders_are_followed_once(flat):
    write(flat.parent / "elsewhere", 3)
    (flat / "cat" / "linked").symlink_to("../../elsewhere")
    (flat / "cat" / "loop").symlink_to("..")
    train, test = open_folder(flat)
    assert len(train.records) + len(test.records) == 23
    assert "1 link to a folder above it (cat/loop)" in notes(flat)


def test_a_folder_that_may_not_be_read_is_named(flat, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        open_folder(flat)


def test_predict_finds_the_images_that_training_finds(flat):
    write(flat / "cat" / "album.png" / "inner.png")
    write(flat / "cat" / ".hidden" / "x.png")
    write(flat / "cat" / "._x.png")
    write(flat.parent / "elsewhere", 3)
    (flat / "cat" / "linked").symlink_to("../../elsewhere")
    train, test = open_folder(flat)
    trained = {
        split.records.name(index)
        for split in (train, test)
        for index in range(len(split.records))
    }
    assert {str(path) for path in _find([flat])} == trained
    assert len(trained) == 24


@pytest.mark.parametrize(
    ("case", "counts"),
    [
        ("stray-image-in-train", [30, 15]),
        ("appledouble-in-train", [20, 10]),
        ("eadir", [16, 4]),
        ("runs-in-data", [16, 4]),
        ("cjk", [60, 30]),
        ("other-extensions", [28, 10]),
    ],
)
def test_the_shared_cases(case, counts, tmp_path):
    archive = CASES / "images-and-archives.tar.xz"
    if not archive.exists():
        pytest.skip("the shared cases are not here")
    import tarfile

    with tarfile.open(archive) as file:
        members = [m for m in file if m.name.removeprefix("./").startswith(f"{case}/")]
        file.extractall(tmp_path, members, filter="data")
    config = folder.get_config().data
    config.path = str(tmp_path / case / "data")
    found = check(config)
    assert found.counts.sum(axis=1).tolist() == counts
    assert not found.unreadable
