"""Tiny-ImageNet, as published and as people change it, image by image."""

import shutil
from pathlib import Path

import pytest

from clonalnet_jax.data.builders.tiny_imagenet import tiny_imagenet
from clonalnet_jax.data.prepare import Request, prepare
from clonalnet_jax.errors import UserError
from tests.data.sources_made import contents, decoded, read, write_tiny_imagenet


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "zip"])
def test_tiny_imagenet_comes_out_as_it_went_in(tmp_path, rng, packed):
    source = tmp_path / "tiny-imagenet-200"
    files = write_tiny_imagenet(source, rng)
    if packed:
        archive = shutil.make_archive(str(source), "zip", tmp_path, source.name)
        source = Path(archive)
    prepare(Request("tiny_imagenet", source, output=str(tmp_path / "tfds")))
    dataset = read(tmp_path, "tiny_imagenet", "validation")
    assert contents(dataset.train) == decoded(files["train"])
    assert contents(dataset.test) == decoded(files["validation"])
    assert dataset.class_names == ("crane (n01)", "crane (n02)", "goldfish")


def test_an_annotation_of_an_unknown_class_is_named(tmp_path, rng):
    write_tiny_imagenet(tmp_path / "tiny", rng, val=["n01", "n99"])
    with pytest.raises(UserError, match="n99"):
        prepare(Request("tiny_imagenet", tmp_path / "tiny", output=f"{tmp_path}/tfds"))


def blank_line(root):
    with (root / "val" / "val_annotations.txt").open("a") as file:
        file.write("\n")


def latin_1(root):
    (root / "words.txt").write_bytes("n01\tcafé\n".encode("latin-1"))


def byte_order_mark(root):
    path = root / "wnids.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def linked(root):
    (root / "train" / "n02").rename(root.parent / "elsewhere")
    (root / "train" / "n02").symlink_to(root.parent / "elsewhere")


def apple_double(root):
    (root / "train" / "n01" / "images" / "._n01_0.JPEG").write_bytes(b"mac")


def reorganised(root):
    for index in range(6):
        folder = root / "val" / f"n0{index // 2 + 1}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"val_{index}.JPEG"
        (root / "val" / "images" / name).rename(folder / name)


@pytest.mark.parametrize(
    "change", [blank_line, latin_1, byte_order_mark, linked, apple_double, reorganised]
)
def test_every_image_of_an_odd_tiny_imagenet_is_counted(tmp_path, rng, change):
    root = tmp_path / "tiny"
    files = write_tiny_imagenet(root, rng)
    change(root)
    content = tiny_imagenet(root)
    for split, go in content.splits.items():
        found = sorted((example.image, example.label) for example in go())
        assert found == sorted(files[split])
    assert content.class_names[0] == ("café" if change is latin_1 else "crane (n01)")


@pytest.mark.parametrize("change", ["lost", "unnamed"])
def test_an_image_that_the_annotations_miss_is_named(tmp_path, rng, change):
    write_tiny_imagenet(tmp_path / "tiny", rng)
    path = tmp_path / "tiny" / "val" / "images" / "val_1.JPEG"
    path.rename(path.with_name("val_9.JPEG" if change == "unnamed" else "val_1.txt"))
    named = "val_9.JPEG" if change == "unnamed" else "no val_1.JPEG"
    with pytest.raises(UserError, match=named):
        tiny_imagenet(tmp_path / "tiny")
