"""Classes in the order of a file, whatever form it has."""

import json
import re

import numpy as np
import pytest

import clonalnet_jax as cn
from clonalnet_jax.data.class_file import reorder
from clonalnet_jax.data.dataset import open_dataset
from clonalnet_jax.data.records import Noise, Split
from clonalnet_jax.errors import UserError

SYNSETS = "n03 cat, tabby\nn01 ant\n\nn02 bee\n"
IMAGENET = {"0": ["n03", "cat"], "1": ["n01", "ant"], "2": ["n02", "bee"]}


def split(names):
    records = Noise((2, 2, 3), len(names), 2 * len(names), 0)
    return Split(records, tuple(names), 3, "test")


def reordered(tmp_path, content, names, name="classes.txt"):
    """The classes, and the name of the class of each of the six images."""
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    train, test = reorder((split(names), split(names)), path)
    assert train.class_names == test.class_names
    labels = [train.records[index].label for index in range(len(train.records))]
    np.testing.assert_array_equal(labels, train.records.labels())
    return train.class_names, [train.class_names[label] for label in labels], train


@pytest.mark.parametrize(
    ("name", "content", "called", "shown"),
    [
        ("c.txt", "cat\nant\nbee\n", ("ant", "bee", "cat"), ("cat", "ant", "bee")),
        ("c.txt", "\ufeffcat\r\nant\r\nbee", ("ant", "bee", "cat"), None),
        ("c.txt", SYNSETS, ("n01", "n02", "n03"), ("cat, tabby", "ant", "bee")),
        ("c.txt", SYNSETS, ("ant", "bee", "cat, tabby"), ("cat, tabby", "ant", "bee")),
        ("c.txt", "big cat\nbig ant\nbee", ("bee", "big ant", "big cat"), None),
        ("c.json", ["cat", "ant", "bee"], ("ant", "bee", "cat"), None),
        ("c.JSON", {"cat": 0, "bee": 2, "ant": 1}, ("ant", "bee", "cat"), None),
        ("c.json", {"0": "cat", "2": "bee", "1": "ant"}, ("ant", "bee", "cat"), None),
        ("c.json", IMAGENET, ("n01", "n02", "n03"), ("cat", "ant", "bee")),
        ("c.json", IMAGENET, ("ant", "bee", "cat"), ("cat", "ant", "bee")),
        ("c.json", {"id2label": {"0": "cat", "1": "ant", "2": "bee"}}, None, None),
    ],
)
def test_the_file_decides_order_and_names(tmp_path, name, content, called, shown):
    called = called or ("ant", "bee", "cat")
    names, images, train = reordered(tmp_path, content, called, name)
    assert sorted(names) != list(names)
    if shown:
        assert names == shown
    # Every image is still of the class that it was of.
    kinds = {"ant": "ant", "bee": "bee", "cat": "cat", "n01": "ant"}
    kinds |= {"n02": "bee", "n03": "cat"}
    for image, before in zip(images, 2 * list(called), strict=True):
        key = before.removeprefix("big ").partition(",")[0]
        assert kinds[key] in image
    assert train.notes == ()


def test_numbers_are_indices_where_the_file_has_names(tmp_path):
    names, images, _ = reordered(tmp_path, "cat\nant\nbee", ("0", "1", "2"))
    assert names == ("cat", "ant", "bee")
    assert images == 2 * ["cat", "ant", "bee"]


def test_classes_without_images_stay_and_are_counted(tmp_path):
    names, images, train = reordered(tmp_path, SYNSETS, ("n01", "n03"))
    assert names == ("cat, tabby", "ant", "bee")
    assert images == 2 * ["ant", "cat, tabby"]
    assert "3 classes; 1 of them have no images" in train.notes[0]


def test_one_title_of_two_classes_is_told_apart(tmp_path):
    cranes = "n1 crane\nn2 crane\nn3 ant"
    names, _, _ = reordered(tmp_path, cranes, ("n1", "n2", "n3"))
    assert names == ("n1 crane", "n2 crane", "ant")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", "ant\nbeee\n", r"did you mean 'beee'\?"),
        ("c.txt", "moth\nwasp\n", "not in .*c.txt, which names 2 classes"),
        ("c.txt", "ant\n", "1 classes"),
        ("c.txt", "", "0 classes"),
        ("c.txt", "ant\nant\nbee", "the class 'ant' twice"),
        ("c.txt", "ant bee\nmoth", "one class of"),
        ("c.json", "{", "JSONDecodeError"),
        ("c.json", "3", "int instead of a list or an object"),
        ("c.json", [1, 2], "1 is no name"),
        ("c.json", {"ant": 0, "bee": 2}, "not 0 to 1"),
        ("c.json", {"ant": 0, "bee": 0}, "not 0 to 1"),
        ("c.json", {"0": "ant", "00": "bee"}, "not 0 to 1"),
        ("c.json", {"x": "ant"}, "ValueError"),
    ],
)
def test_what_is_no_order_of_these_classes_is_refused(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        reordered(tmp_path, content, ("ant", "bee"), name)


def test_what_is_too_long_for_names_is_not_cut(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"ant\nbee\n" * 2_000_000)
    with pytest.raises(UserError, match="16,000,000 bytes"):
        reorder((split("ab"), split("ab")), path)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "c.txt"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"c\.txt"):
        reorder((split("ab"), split("ab")), path)


@pytest.mark.slow
def test_a_run_with_classes_that_have_no_images(tmp_path, one_device, two_blocks):
    """A network of four classes, and images of two of them."""
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(["z", "1", "y", "0"]))
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.integers(60, size=(40, 8, 8), dtype=np.uint8)
    images[labels == 1] += 100
    data = cn.from_arrays(train=(images[:24], labels[:24]), test=(images, labels))
    config = cn.config(
        "default",
        steps=30,
        batch_size=8,
        methods=("clone",),
        data={"class_file": str(path)},
        baseline={"model": "resnet8", "width": 4},
        clone={"model": "resnet8", "width": 4},
    )
    results = cn.train(config, tmp_path / "w", data=data)
    assert results["baseline"]["top1"] == 100
    assert results.clone.class_names == ("z", "1", "y", "0")
    answers = results.clone.predict(images).argmax(-1)
    np.testing.assert_array_equal(answers, np.where(labels == 0, 3, 1))
    assert re.findall(r">\s*nan\b", results.report().path.read_text().lower()) == []
    saved = cn.load(tmp_path / "w").network.meta
    assert saved.class_names == ["z", "1", "y", "0"]


def test_labels_on_the_device_are_the_new_ones(tmp_path, tfds_dir):
    path = tmp_path / "digits.txt"
    path.write_text("\n".join("9876543210"))
    config = cn.config("digits", data={"path": tfds_dir}).data
    plain = open_dataset(config, seed=0)
    config = cn.config("digits", data={"path": tfds_dir, "class_file": str(path)}).data
    turned = open_dataset(config, seed=0)
    np.testing.assert_array_equal(turned.test.labels(), 9 - plain.test.labels())
    assert turned.class_names == tuple("9876543210")
