"""Tables of images: what they say, and every way in which they can be wrong."""

import csv
import json

import numpy as np
import pyarrow
import pytest
from clonalnet_jax.configs import folder
from PIL import Image
from pyarrow import parquet

from clonalnet_jax.data.dataset import open_dataset, open_splits
from clonalnet_jax.errors import UserError
from clonalnet_jax.training import story

COLUMNS = ("path", "label")
ROWS = [
    (f"photos/{label}{number}.png", label, "test" if number == 4 else "train")
    for label in ("bee", "ant")
    for number in range(5)
]


@pytest.fixture
def photos(tmp_path):
    """A folder with the images of `ROWS`: each class in a colour."""
    (tmp_path / "photos").mkdir()
    for number, (path, label, _) in enumerate(ROWS):
        pixels = np.full((8, 8, 3), 10 * number + 100 * (label == "ant"), np.uint8)
        Image.fromarray(pixels).save(tmp_path / path)
    return tmp_path


def write(path, rows, header=("path", "label", "split"), *, delimiter=",", bom=False):
    encoding = "utf-8-sig" if bom else "utf-8"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def write_parquet(path, rows, header=("path", "label", "split")):
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(columns), path)
    return path


def config_of(path, **values):
    config = folder.get_config().data
    config.source, config.path = "manifest", str(path)
    config.image_size = None
    config.update(values)
    return config


def contents(split):
    names = [split.records.name(i) for i in range(len(split.records))]
    labels = [split.class_names[k] for k in split.records.labels()]
    return sorted(zip([n.rpartition("/")[2] for n in names], labels, strict=True))


def expected(split):
    return sorted((p.rpartition("/")[2], k) for p, k, s in ROWS if s == split)


def write_two(folder):
    for name in ("train", "test"):
        rows = [row[:2] for row in ROWS if row[2] == name]
        write(folder / f"{name}.csv", rows, COLUMNS)
    return folder


FORMS = {
    "csv": lambda folder: write(folder / "all.csv", ROWS),
    "bom": lambda folder: write(folder / "all.CSV", ROWS, bom=True),
    "tsv": lambda folder: write(folder / "all.tsv", ROWS, delimiter="\t"),
    "parquet": lambda folder: write_parquet(folder / "all.parquet", ROWS),
    "val": lambda folder: write(
        folder / "v.csv", [(p, k, s.replace("test", "val")) for p, k, s in ROWS]
    ),
    "two files": write_two,
    "absolute": lambda folder: write(
        folder / "a.csv", [(folder / path, *rest) for path, *rest in ROWS]
    ),
    "more columns, in another order": lambda folder: write(
        folder / "m.csv",
        [(s, "x,y", k, f" {p} ") for p, k, s in ROWS],
        ("split", "comment", "label", "path"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(photos, form):
    train, test = open_splits(config_of(FORMS[form](photos)))
    assert train.class_names == test.class_names == ("ant", "bee")
    assert contents(train) == expected("train")
    assert contents(test) == expected("test")
    assert not train.notes


def test_pixels_belong_to_their_labels(photos):
    dataset = open_dataset(config_of(write(photos / "all.csv", ROWS)), seed=0)
    for index in range(len(dataset.train)):
        example = dataset.train[index]
        assert (example.image.min() >= 100) == (example.label == 0)


def test_without_splits_a_share_of_every_class_is_drawn_and_said(photos):
    path = write(photos / "all.csv", [row[:2] for row in ROWS], COLUMNS)
    train, test = open_splits(config_of(path, test_fraction=0.4))
    assert np.bincount(train.records.labels()).tolist() == [3, 3]
    assert np.bincount(test.records.labels()).tolist() == [2, 2]
    assert "4 images, 0.4 of every class, are drawn for testing" in train.notes[0]
    again, _ = open_splits(config_of(path, test_fraction=0.4))
    assert contents(again) == contents(train)
    other, _ = open_splits(config_of(path, test_fraction=0.4, split_seed=1))
    assert contents(other) != contents(train)
    assert not set(contents(train)) & set(contents(test))


def test_numbers_are_in_the_order_of_numbers(photos):
    rows = [(path, {"ant": 10, "bee": 9}[label], s) for path, label, s in ROWS]
    for path in (
        write(photos / "n.csv", rows),
        write_parquet(photos / "n.parquet", rows),
    ):
        assert open_splits(config_of(path))[0].class_names == ("9", "10")


def test_rows_of_other_splits_are_counted(photos):
    rows = [*ROWS, ("photos/unlabelled.png", "?", "extra")]
    train, test = open_splits(config_of(write(photos / "all.csv", rows)))
    assert "1 rows of split 'extra', unused" in train.notes[0]
    assert contents(train) + contents(test) == expected("train") + expected("test")


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_it_trains(photos):
    config = folder.get_config()
    config.data = config_of(write(photos / "all.csv", ROWS))
    config.batch_size, config.steps, config.methods = 8, 2, ()
    config.baseline.model, config.baseline.min_top1 = "resnet8", 0.0
    config.optimizer.warmup_epochs = 0.0
    config.baseline.options = {"width": 4}
    story.train(config, photos / "run")
    results = json.loads((photos / "run" / "results.json").read_text())
    assert set(results) == {"baseline"}


def replaced(number, row):
    return [*ROWS[:number], row, *ROWS[number + 1 :]]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ROWS,
            ("file", "class", "split"),
            "no column path and label, but: file",
        ),
        ([], ("path", "label", "split"), "no rows"),
        (replaced(2, ("photos/bee2.png", "", "train")), None, r"line 4\n.*no label"),
        (replaced(0, ("", "bee", "train")), None, r"line 2\n.*no path"),
        (
            replaced(1, ("photos/x.png", "bee", "train")),
            None,
            r"line 3\n.*/x.png",
        ),
        (replaced(1, ("photos", "bee", "train")), None, r"line 3\n.*no file"),
        (replaced(1, ("photos/bee1.png", "bee")), None, r"line 3\n.*another length"),
        (replaced(1, ("photos/b,1.png", *"xyz")), None, "line 3"),
        ([*ROWS, ROWS[0]], None, r"line 12\n.*line 2, too"),
        (
            [*ROWS, ("./photos/bee0.png", "ant", "test")],
            None,
            r"line 12\n.*line 2, too",
        ),
        (replaced(4, ("photos/bee4.png", "bea", "test")), None, "did you mean 'bee'"),
        ([r for r in ROWS if r[1] == "ant"], None, "1 class in the training split"),
        ([r for r in ROWS if r[0][-5:] != "4.png"], None, "config.data.test_split"),
        ([r for r in ROWS if r[0] != "photos/ant4.png"], None, "in test of 'ant'"),
    ],
)
def test_what_is_wrong_is_named(photos, rows, header, message):
    path = write(photos / "all.csv", rows, header or ("path", "label", "split"))
    with pytest.raises(UserError, match=message) as caught:
        open_splits(config_of(path))
    assert str(photos) in str(caught.value)


def test_many_missing_files_are_counted(photos):
    rows = [(path.replace("photos", "fotos"), *rest) for path, *rest in ROWS]
    with pytest.raises(UserError, match=r"fotos/bee0.png, and 9 more rows"):
        open_splits(config_of(write(photos / "all.csv", rows)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("all.csv", b"path,label\nphotos/bee0.png,b\xe9e\n", "utf-8"),
        ("all.csv", b'path,label\n"photos/bee0.png,bee\n', "line"),
        ("all.parquet", b"PAR1 is not all", "Parquet"),
        ("all.xlsx", b"", "a file that ends in .xlsx"),
        ("other.csv", b"", "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(photos, name, content, message):
    (photos / name.replace("other", "another")).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*\n.*{message}|{message}"):
        open_splits(config_of(photos / name))


def test_a_folder_without_manifests_is_named(photos):
    with pytest.raises(UserError, match=r"no train\.csv"):
        open_splits(config_of(photos))
    with pytest.raises(UserError, match=r"config\.data\.path"):
        open_splits(config_of(""))
