"""Images in memory and in NumPy's files: read, kept, trained on, and refused."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clonalnet_jax as cn
from clonalnet_jax.data import open_dataset
from clonalnet_jax.data.arrays import from_arrays
from clonalnet_jax.errors import UserError

NAMES = ("ant", "bee", "cat")


def make(count, rng, shape=(5, 4, 3)):
    labels = np.arange(count) % 3
    images = rng.integers(256, size=(count, *shape), dtype=np.uint8)
    return images, labels


@pytest.fixture
def arrays(rng):
    """The arrays of a file."""
    (images, labels), (others, known) = make(12, rng), make(6, rng)
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": others,
        "test_labels": known,
        "class_names": np.array(NAMES),
    }


def section(path, **changes):
    return cn.config("default", data={"source": "arrays", "path": str(path), **changes})


def opened(path, **changes):
    return open_dataset(section(path, **changes).data, seed=0)


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    return path


@pytest.mark.parametrize("name", ["mine.npz", "mine"])
def test_every_image_keeps_its_label(tmp_path, arrays, name):
    dataset = opened(write(tmp_path / name, arrays))
    assert dataset.class_names == NAMES
    assert dataset.image_shape == (5, 4, 3)
    for split in ("train", "test"):
        source = getattr(dataset, split)
        np.testing.assert_array_equal(source.images, arrays[f"{split}_images"])
        np.testing.assert_array_equal(source.labels(), arrays[f"{split}_labels"])


def test_a_medmnist_file_is_read_as_it_is(tmp_path, rng):
    """Grey without a channel, labels in a column, and a validation split beside."""
    images, labels = make(12, rng, shape=(4, 4))
    parts = {f"{s}_images": images for s in ("train", "val", "test")}
    parts |= {f"{s}_labels": labels[:, None] for s in ("train", "val", "test")}
    path = write(tmp_path / "medmnist.npz", parts)
    dataset = opened(path)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.class_names == ("0", "1", "2")
    assert any("val_images, which are not used" in note for note in dataset.notes)
    chosen = opened(path, test_split="val")
    assert any("test_images, which are not used" in note for note in chosen.notes)


def test_without_a_test_split_a_share_of_every_class_is_drawn(tmp_path, arrays):
    del arrays["test_images"], arrays["test_labels"]
    dataset = opened(write(tmp_path / "mine.npz", arrays), test_fraction=0.25)
    assert np.bincount(dataset.test.labels()).tolist() == [1, 1, 1]
    assert np.bincount(dataset.train.labels()).tolist() == [3, 3, 3]
    everything = np.concatenate([dataset.train.images, dataset.test.images])
    assert len(np.unique(everything, axis=0)) == 12
    assert any("drawn for testing" in note for note in dataset.notes)


def floats(arrays):
    arrays["train_images"] = arrays["train_images"] / 255


def five_channels(arrays):
    arrays["test_images"] = np.zeros((6, 4, 4, 5), np.uint8)


def other_size(arrays):
    arrays["test_images"] = arrays["test_images"][:, 1:]


def one_label_less(arrays):
    arrays["train_labels"] = arrays["train_labels"][1:]


def names_as_labels(arrays):
    arrays["train_labels"] = np.array(NAMES)[arrays["train_labels"]]


def below_zero(arrays):
    arrays["train_labels"] = arrays["train_labels"] - 1


def out_of_range(arrays):
    arrays["test_labels"] = arrays["test_labels"] + 1


def a_class_without_images(arrays):
    arrays["train_labels"] = np.where(arrays["train_labels"] == 1, 0, 2)


def no_labels(arrays):
    del arrays["test_labels"]


def no_images(arrays):
    arrays["train_images"] = arrays["train_images"][:0]


def names_twice(arrays):
    arrays["class_names"] = np.array(["ant", "ant", "cat"])


def numbers_as_names(arrays):
    arrays["class_names"] = np.arange(3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (floats, r"train_images\n.*float64 \[12, 5, 4, 3\]\n.*uint8"),
        (five_channels, r"test_images\n.*uint8 \[6, 4, 4, 5\]"),
        (other_size, r"images \[4, 4, 3\]\n.*images \[5, 4, 3\]"),
        (one_label_less, r"train_labels\n.*int64 \[11\]\n.*integers \[12\]"),
        (names_as_labels, r"train_labels\n.*<U3 \[12\]\n.*integers"),
        (below_zero, "labels from -1 to 1"),
        (out_of_range, r"label 3\n.*0 to 2"),
        (a_class_without_images, "no image of bee"),
        (no_labels, "test_labels\n.*no such array"),
        (no_images, r"uint8 \[0, 5, 4, 3\]"),
        (names_twice, "two different names"),
        (numbers_as_names, "class_names"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, arrays, spoil, message):
    spoil(arrays)
    path = write(tmp_path / "mine.npz", arrays)
    with pytest.raises(UserError, match=message):
        opened(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (floats, r"from_arrays: train_images\n.*float64"),
        (other_size, r"from_arrays: test_images\n.*\[4, 4, 3\]"),
        (one_label_less, r"from_arrays: train_labels\n.*int64 \[11\]"),
        (out_of_range, "from_arrays: labels of test_images"),
        (names_twice, "two different names"),
    ],
)
def test_what_is_wrong_in_memory_is_named(arrays, spoil, message):
    spoil(arrays)
    names = arrays.pop("class_names")
    images, labels, *test = arrays.values()
    with pytest.raises(UserError, match=message):
        from_arrays((images, labels), test, class_names=names)


class Hostile:
    """Would end the test run if it were unpickled."""

    def __reduce__(self):
        return (pytest.exit, ("a pickle was run",))


@pytest.mark.parametrize("name", ["mine.npz", "mine"])
def test_nothing_is_unpickled(tmp_path, arrays, name):
    hostile = np.empty(1, object)
    hostile[0] = Hostile()
    with pytest.raises(UserError, match="without objects"):
        opened(write(tmp_path / name, {**arrays, "class_names": hostile}))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"<html>", pickle.dumps({"a": 1})],
)
def test_a_file_of_another_kind_is_one_message(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"arrays .*mine\.npz"):
        opened(tmp_path / "mine.npz")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_one_message(tmp_path, arrays, share):
    path = write(tmp_path / "mine.npz", arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"arrays .*mine\.npz"):
        opened(path)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path, arrays):
    folder = write(tmp_path / "mine", arrays)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 9, 9), }" % 2**50
    header += b" " * (117 - len(header)) + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    (folder / "train_images.npy").write_bytes(start + header)
    with pytest.raises(UserError, match=r"train_images\.npy"):
        opened(folder)


def test_nothing_there_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        opened(tmp_path / "nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"without \.npy files"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match="not set"):
        open_dataset(cn.config("default", data={"source": "arrays"}).data, seed=0)


class Pairs:
    """Examples as PyTorch's datasets hold them."""

    classes = NAMES

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


@pytest.mark.parametrize("form", ["pairs", "mappings", "pillow", "pillow in mappings"])
def test_examples_by_index_are_stacked(rng, form):
    images, labels = make(6, rng)
    shown = [Image.fromarray(x) if "pillow" in form else x for x in images]
    examples = list(zip(shown, labels.tolist(), strict=True))
    if "mappings" in form:
        examples = [{"image": x, "label": y, "id": 3} for x, y in examples]
    data = from_arrays(Pairs(examples), Pairs(examples))
    np.testing.assert_array_equal(data.train.images, images)
    np.testing.assert_array_equal(data.test.labels(), labels)
    assert data.class_names == NAMES


def test_grey_among_colours_becomes_rgb():
    grey = Image.new("L", (4, 5), 7)
    colour = Image.new("RGBA", (4, 5), (1, 2, 3, 255))
    data = from_arrays(Pairs([(grey, 0), (colour, 1)]), class_names=("a", "b"))
    assert data.train.images.shape == (2, 5, 4, 3)
    assert data.train.images[0].min() == data.train.images[0].max() == 7
    assert data.train.images[1, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (3, "int"),
        (Pairs([]), "no examples"),
        (Pairs([(np.zeros((2, 2)), 0, 1)]), "example 0 of type tuple"),
        (Pairs([{"picture": 0, "label": 1}]), "example 0 with picture, label"),
        (Pairs([(np.zeros((2, 2)), 0), (np.zeros((3, 2)), 0)]), "images of 2 sizes"),
    ],
)
def test_other_examples_are_refused(examples, message):
    with pytest.raises(UserError, match=message):
        from_arrays(examples)


def test_kept_arrays_are_known_by_their_content(tmp_path, arrays):
    images, labels = arrays["train_images"], arrays["train_labels"]
    data = from_arrays((images, labels), (images, labels), class_names=NAMES)
    folder = data.keep(tmp_path)
    assert data.keep(tmp_path) == folder
    other = from_arrays((images[::-1], labels[::-1]), (images, labels))
    assert other.keep(tmp_path) != folder
    assert opened(folder).class_names == NAMES
    path = folder / "train_images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="other content than was written"):
        opened(folder)


def test_a_directory_that_cannot_be_written_is_one_message(tmp_path, arrays):
    data = from_arrays((arrays["train_images"], arrays["train_labels"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        data.keep(tmp_path / "file")


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_a_run_on_arrays_is_the_run_on_the_same_files(tmp_path, digits_config):
    digits_config.batch_size, digits_config.steps = 48, 4
    source = open_dataset(digits_config.data, seed=0)
    parts = [(part.images, part.labels()) for part in (source.train, source.test)]
    data = cn.from_arrays(*parts, class_names=source.class_names)
    ours = cn.train(digits_config, tmp_path / "arrays", data=data)
    files = cn.train(digits_config, tmp_path / "files")
    for run, row in files.items():
        assert {k: ours[run][k] for k in ("top1", "nll", "ece")} == {
            k: row[k] for k in ("top1", "nll", "ece")
        }
    # The workdir holds the data: nothing has to be given again.
    assert cn.evaluate(tmp_path / "arrays") == ours
    other = cn.from_arrays(parts[1], parts[0], class_names=source.class_names)
    with pytest.raises(UserError, match=r"config\.data\.path"):
        cn.train(digits_config, tmp_path / "arrays", data=other)
    with pytest.raises(UserError, match="of type tuple"):
        cn.train(digits_config, tmp_path / "arrays", data=parts[0])


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_the_page_runs_as_written(tmp_path, monkeypatch, capsys):
    page = Path(__file__).parent.parent.parent / "docs" / "data.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(page), "exec"), {})
    printed = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert min(printed[run] for run in ("baseline", "clone")) > 60
