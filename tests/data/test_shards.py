"""Tar shards: what is read of them, and every way in which they can be wrong."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from clonalnet_jax.configs import folder
from PIL import Image

import clonalnet_jax as cn
from clonalnet_jax.data.dataset import open_dataset, open_splits
from clonalnet_jax.errors import UserError


def picture(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "png")
    return file.getvalue()


def write(path, members, mode="w"):
    """An archive of names and bytes, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(*numbers, ending="cls"):
    """Image and class of some numbers; even ones are ants, odd ones bees."""
    for number in numbers:
        label = ("ant", "bee")[number % 2]
        content = label if ending == "cls" else json.dumps({"label": label, "x": [1]})
        yield f"{number:04}.png", picture(number)
        yield f"{number:04}.{ending}", content.encode()


def config_of(path, **values):
    config = folder.get_config().data
    config.source, config.path, config.image_size = "shards", str(path), None
    config.update(values)
    return config


def contents(split):
    """The first pixel and the class of every image."""
    found = []
    for index in range(len(split.records)):
        stored = split.records[index]
        pixels = np.asarray(Image.open(io.BytesIO(stored.image)))
        found.append((int(pixels[0, 0, 0]), split.class_names[stored.label]))
    return found


TRAIN = [(n, ("ant", "bee")[n % 2]) for n in range(6)]
TEST = [(n, ("ant", "bee")[n % 2]) for n in range(6, 8)]


@pytest.mark.parametrize("ending", ["cls", "json"])
@pytest.mark.parametrize(
    ("first", "second", "test"),
    [
        ("train-0000.tar", "train-0001.tar", "test-0000.tar"),
        ("train/a.tar", "train/b.tar", "val/c.tar"),
        ("train_0.tar", "train_1.tar", "validation.tar"),
    ],
)
def test_shards_are_found_and_read(tmp_path, first, second, test, ending):
    write(tmp_path / first, samples(0, 1, 2, ending=ending))
    write(tmp_path / second, samples(3, 4, 5, ending=ending))
    write(tmp_path / test, samples(6, 7, ending=ending))
    (tmp_path / "training.tar").write_text("not of the split train")
    (tmp_path / ".train-9.tar").write_text("hidden")
    train, tested = open_splits(config_of(tmp_path))
    assert (contents(train), contents(tested)) == (TRAIN, TEST)
    assert train.records.name(3) == f"{tmp_path / second}: 0003"
    np.testing.assert_array_equal(train.records.labels(), [0, 1] * 3)
    assert contents(pickle.loads(pickle.dumps(train))) == TRAIN
    dataset = open_dataset(config_of(tmp_path), seed=0)
    assert dataset.image_shape == (8, 8, 3)


def test_numbers_are_classes_in_their_order(tmp_path):
    labels = ("10", "9", "2")
    members = [
        member
        for split in "ab"
        for label in labels
        for member in (
            (f"{split}/{label}.x.png", picture(int(label))),
            (f"{split}/{label}.cls", f" {label}\n".encode()),
        )
    ]
    write(tmp_path / "train.tar", members)
    write(tmp_path / "test.tar", members)
    train, _ = open_splits(config_of(tmp_path))
    assert train.class_names == ("2", "9", "10")
    assert contents(train) == [(int(x), x) for _ in "ab" for x in labels]
    assert train.records.name(0).endswith("train.tar: a/10")


def test_without_a_test_split_a_share_is_drawn_and_told_of(tmp_path):
    write(tmp_path / "train.tar", samples(*range(20)))
    train, test = open_splits(config_of(tmp_path, test_fraction=0.2))
    assert len(test.records) == 4
    assert sorted(contents(train) + contents(test)) == [
        (n, ("ant", "bee")[n % 2]) for n in range(20)
    ]
    assert "4 images, 0.2 of every class" in train.notes[0]


def test_other_members_do_not_matter(tmp_path):
    members = [*samples(*range(6))]
    members.insert(2, ("._0000.png", b"of a Mac"))
    members.insert(3, ("0001.txt", b"a caption"))
    path = write(tmp_path / "train.tar", members)
    with tarfile.open(path, "a") as archive:
        folder_of = tarfile.TarInfo("some/folder")
        folder_of.type = tarfile.DIRTYPE
        archive.addfile(folder_of)
    write(tmp_path / "test.tar", samples(6, 7))
    assert contents(open_splits(config_of(tmp_path))[0]) == TRAIN


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def join(path):
    content = path.read_bytes()
    path.write_bytes(content + content)


FAULTS = {
    "half": (lambda p: cut(p, 700), "unexpected end of data"),
    "no end": (lambda p: cut(p, 6 * 2 * 1024), "it ends before its end"),
    "empty": (lambda p: cut(p, 0), "empty file"),
    "joined": (join, "goes on behind its end"),
    "text": (lambda p: p.write_text("no archive" * 99), "header"),
    "no class": (lambda p: write(p, [("a.png", b"x")]), r"no class among a\.png"),
    "no image": (lambda p: write(p, [("a.cls", b"x")]), r"0 images among a\.cls"),
    "two images": (
        lambda p: write(p, [("a.png", b""), ("a.seg.png", b""), ("a.cls", b"x")]),
        r"2 images among a\.png, a\.seg\.png",
    ),
    "apart": (
        lambda p: write(p, [*samples(0, 1), *samples(0)]),
        "0000 again, after other samples",
    ),
    "no text": (lambda p: write(p, [("a.png", b""), ("a.cls", b"\xff")]), "utf-8"),
    "no json": (lambda p: write(p, [("a.png", b""), ("a.json", b"{")]), r"a\.json"),
    "a list": (lambda p: write(p, [("a.png", b""), ("a.json", b"[1]")]), "no class"),
    "a truth": (
        lambda p: write(p, [("a.png", b""), ("a.json", b'{"label": true}')]),
        "no class",
    ),
    "one class": (lambda p: write(p, samples(0, 2)), "1 class in the training"),
    "compressed": (
        lambda p: write(p.with_name("train-1.tar.gz"), samples(0), "w:gz"),
        "a compressed archive",
    ),
    "gone": (lambda p: p.unlink(), r"no train\*\.tar"),
    "link": (lambda p: (p.unlink(), p.symlink_to("nowhere.tar")), "No such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(tmp_path, fault):
    path = write(tmp_path / "train-0.tar", samples(*range(6)))
    write(tmp_path / "test.tar", samples(6, 7))
    do, message = FAULTS[fault]
    do(path)
    with pytest.raises(UserError, match=message) as caught:
        open_splits(config_of(tmp_path))
    assert str(tmp_path) in caught.value.culprit


def test_a_class_of_the_test_split_alone_is_refused(tmp_path):
    write(tmp_path / "train.tar", samples(*range(6)))
    write(tmp_path / "test.tar", [("a.png", picture(1)), ("a.cls", b"bees")])
    with pytest.raises(UserError, match=r"did you mean 'bee'\?"):
        open_splits(config_of(tmp_path))


@pytest.mark.parametrize("change", [lambda p: cut(p, 2000), lambda p: p.unlink()])
def test_a_shard_that_changes_is_named_when_it_is_read(tmp_path, change):
    path = write(tmp_path / "train.tar", samples(*range(6)))
    write(tmp_path / "test.tar", samples(6, 7))
    train, _ = open_splits(config_of(tmp_path))
    change(path)
    with pytest.raises(UserError, match="changed or taken away") as caught:
        _ = train.records[5]
    assert caught.value.culprit.endswith("train.tar: 0005")


def test_no_path_is_told_what_to_give():
    config = config_of("")
    config.path = None
    with pytest.raises(UserError, match="path=/path/to/shards"):
        open_splits(config)


@pytest.mark.slow
def test_a_network_learns_from_them(tmp_path, one_device, two_blocks):
    bright = [
        member
        for n in range(40)
        for member in (
            (f"{n}.png", picture(200 * (n % 2) + n)),
            (f"{n}.cls", str(n % 2).encode()),
        )
    ]
    write(tmp_path / "train-0.tar", bright[:40])
    write(tmp_path / "train-1.tar", bright[40:])
    config = cn.config(
        "default",
        steps=20,
        batch_size=8,
        methods=("cross_entropy",),
        data={"source": "shards", "path": str(tmp_path)},
        baseline={"model": "resnet8", "width": 4},
        clone={"model": "resnet8", "width": 4},
    )
    assert cn.train(config, tmp_path / "w")["baseline"]["top1"] == 100
