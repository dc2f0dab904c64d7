"""What is prepared is what was given, or nothing is."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clonalnet_jax.data.prepare import Request, main, prepare
from clonalnet_jax.errors import UserError
from tests.data.sources_made import (
    read,
    write_folder,
    write_tiny_imagenet,
)

ROOT = Path(__file__).parent.parent.parent


def test_a_folder_comes_out_as_it_went_in(tmp_path, rng):
    write_folder(tmp_path / "images", rng)
    prepare(
        Request("folder", tmp_path / "images", name="mine", output=f"{tmp_path}/tfds")
    )
    dataset = read(tmp_path, "mine", on_device=False)
    found = {dataset.train[i].image.tobytes() for i in range(len(dataset.train))}
    files = (tmp_path / "images" / "train").rglob("*.png")
    assert found == {np.asarray(Image.open(path)).tobytes() for path in files}
    assert dataset.class_names == ("ant", "cat")


def test_a_shorter_side_reduces_what_is_larger_and_nothing_else(tmp_path, rng):
    write_folder(tmp_path / "images", rng)
    request = Request(
        "folder",
        tmp_path / "images",
        name="small",
        output=f"{tmp_path}/tfds",
        shorter_side=41,
    )
    prepare(request)
    dataset = read(tmp_path, "small", on_device=False)
    shapes = {dataset.train[i].image.shape[:2] for i in range(len(dataset.train))}
    assert shapes == {(40, 60), (41, 60), (41, 59)}


def test_what_is_there_is_left_alone(tmp_path, rng, capsys):
    write_folder(tmp_path / "images", rng)
    arguments = ["folder", f"--source={tmp_path}/images", "--name=mine"]
    arguments.append(f"--output={tmp_path}/tfds")
    assert main(arguments) == 0
    files = sorted((tmp_path / "tfds").rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    assert main(arguments) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    output = capsys.readouterr().out
    assert output.count("train: 6 images") == 2
    assert f"--config.data.path={tmp_path}/tfds" in output


def cut_image(root):
    path = root / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:100])


def empty_class(root):
    for path in (root / "train" / "cat").iterdir():
        path.unlink()


def other_class(root):
    (root / "val" / "cat").rename(root / "val" / "dog")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (cut_image, "cat/1.png"),
        (empty_class, "train/cat"),
        (other_class, "cat, dog"),
        (shutil.rmtree, "nothing there"),
    ],
)
def test_a_broken_folder_is_named_and_leaves_nothing(tmp_path, rng, damage, named):
    write_folder(tmp_path / "images", rng)
    damage(tmp_path / "images")
    request = Request(
        "folder", tmp_path / "images", name="mine", output=f"{tmp_path}/tfds"
    )
    with pytest.raises(UserError, match=named):
        prepare(request)
    assert not (tmp_path / "tfds" / "mine" / "1.0.0").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_damaged_archive_is_named(tmp_path, rng, suffix):
    path = tmp_path / f"archive{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wnids.txt", rng.bytes(10_000))
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(UserError, match="archive"):
        prepare(Request("tiny_imagenet", path, output=str(tmp_path / "tfds")))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tiny_imagenet"], "--source"),
        (["folder", "--source=."], "--name"),
        (["mnist"], "TensorFlow"),
        (["cifar10", "--source=/nowhere"], "/nowhere"),
    ],
)
def test_a_wrong_command_is_one_message(
    tmp_path, monkeypatch, capsys, arguments, named
):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert main([*arguments, f"--output={tmp_path}/tfds"]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_preparation_that_was_killed_is_not_taken_for_whole(tmp_path, rng):
    write_tiny_imagenet(tmp_path / "tiny", rng)
    image = tmp_path / "tiny" / "train" / "n01" / "images" / "n01_1.JPEG"
    for index in range(6, 3000):
        os.link(image, image.with_name(f"n01_{index}.JPEG"))
    command = [sys.executable, "-m", "clonalnet_jax.data.prepare", "tiny_imagenet"]
    command += [f"--source={tmp_path}/tiny", f"--output={tmp_path}/tfds"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("tfds/tiny_imagenet/incomplete*/*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for attempt in (
        lambda: read(tmp_path, "tiny_imagenet", "validation"),
        lambda: prepare(
            Request("tiny_imagenet", tmp_path / "tiny", output=f"{tmp_path}/tfds")
        ),
    ):
        with pytest.raises(UserError, match="half prepared: incomplete"):
            attempt()
    for left in (tmp_path / "tfds" / "tiny_imagenet").glob("incomplete.*"):
        shutil.rmtree(left)
    prepare(Request("tiny_imagenet", tmp_path / "tiny", output=f"{tmp_path}/tfds"))
    assert len(read(tmp_path, "tiny_imagenet", "validation").test) == 6


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_data_set_that_lost_a_file_is_named(tmp_path, rng, damage):
    write_folder(tmp_path / "images", rng)
    prepare(
        Request("folder", tmp_path / "images", name="mine", output=f"{tmp_path}/tfds")
    )
    (path,) = (tmp_path / "tfds").rglob("*train.array_record*")
    damage(path)
    with pytest.raises(UserError, match=path.name):
        read(tmp_path, "mine")


@pytest.mark.slow
def test_nothing_of_this_takes_tensorflow(tmp_path, rng):
    write_folder(tmp_path / "images", rng)
    script = f"""
import sys
from clonalnet_jax.data.prepare import main
assert main(["folder", "--source={tmp_path}/images", "--name=mine",
             "--output={tmp_path}/tfds"]) == 0
assert main(["digits", "--output={tmp_path}/tfds"]) == 0
from clonalnet_jax.data import open_dataset
from clonalnet_jax.configs import default
config = default.get_config().data
config.update(dict(source="tfds", name="mine", path="{tmp_path}/tfds", image_size=32))
open_dataset(config, seed=0).train[0]
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_two_first_preparations_at_once_both_find_the_data_set(tmp_path):
    command = [sys.executable, "-m", "clonalnet_jax.data.prepare", "digits"]
    command += [f"--output={tmp_path}/tfds"]
    starts = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in starts:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "test: 1,497 images" in output


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["digits", "--name=mine", "--output=~/tfds"]) == 0
    assert (tmp_path / "tfds" / "mine" / "1.0.0").is_dir()
    assert len(read(tmp_path, "mine", path="~/tfds").train) == 300
