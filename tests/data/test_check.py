"""What is said of a data set, and the picture of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clonalnet_jax.configs import cifar10_small, folder
from PIL import Image

from clonalnet_jax.data.check import check
from clonalnet_jax.data.preview import contact_sheet

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def images(tmp_path, rng):
    """Four training and two test images of each of two classes, of three sizes."""
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "<b>ant"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(8 + index % 2, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    return tmp_path


def damage(images):
    shutil.copy(images / "train/cat/1.png", images / "test/cat/0.png")
    # The same pixels in another file are the same image.
    Image.open(images / "train/cat/1.png").save(images / "train/cat/3.bmp")
    (images / "train/<b>ant/2.png").write_text("no image")


def run(module, config, *arguments):
    command = [sys.executable, "-m", f"clonalnet_jax.data.{module}"]
    command += [f"--config={config}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_counts_sizes_duplicates_and_unreadable_files_are_found(images):
    damage(images)
    config = folder.get_config().data
    config.path = str(images)
    found = check(config)
    assert found.class_names == ("<b>ant", "cat")
    np.testing.assert_array_equal(found.counts, [[4, 5], [2, 2]])
    assert [Path(name).name for name, _ in found.unreadable] == ["2.png"]
    assert [(Path(a).name, Path(b).name) for a, b in found.duplicates] == [
        ("1.png", "0.png")
    ]
    assert found.repeated == 1
    assert found.sizes == ((8, 9), (9, 9))


@pytest.mark.slow
def test_the_program_prints_them_and_says_so_by_its_code(images):
    clean = run("check", "configs/folder.py", f"--config.data.path={images}")
    assert clean.returncode == 0, clean.stderr
    assert "<b>ant" in clean.stdout
    damage(images)
    result = run("check", "configs/folder.py", f"--config.data.path={images}")
    assert result.returncode == 3
    assert "Unreadable images: 1" in result.stdout
    assert f"{images}/train/<b>ant/2.png: " in result.stdout


@pytest.mark.parametrize("module", ["check", "preview"])
def test_a_missing_data_set_is_one_message(module):
    result = run(module, "configs/folder.py", "--config.data.path=/nowhere")
    assert result.returncode == 2
    assert "/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("module", ["check", "preview"])
@pytest.mark.parametrize("flag", ["seed=-1", "optimizer.name=sdg"])
def test_a_config_that_training_refuses_is_refused(module, flag):
    synthetic = "--config.data.synthetic=True"
    result = run(module, "configs/cifar10.py", synthetic, f"--config.{flag}")
    assert result.returncode == 2
    assert result.stderr.startswith(f"ERROR: config.{flag.partition('=')[0]}\n")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("image_size", [None, 40])
def test_the_contact_sheet_shows_evaluation_and_views(images, image_size):
    for path in images.rglob("1.png"):
        path.unlink()  # of another size
    for path in images.rglob("3.png"):
        path.unlink()
    config = cifar10_small.get_config()
    config.data.update({"path": str(images), "image_size": image_size})
    config.data.crop_padding = 2
    sheet = np.asarray(contact_sheet(config))
    assert sheet.shape[2] == 3
    assert sheet.std() > 10
    np.testing.assert_array_equal(sheet, np.asarray(contact_sheet(config)))


@pytest.mark.slow
def test_the_preview_writes_a_png(tmp_path):
    output = tmp_path / "sheet.png"
    synthetic = "--config.data.synthetic=True"
    result = run("preview", "configs/cifar10.py", synthetic, f"--output={output}")
    assert result.returncode == 0, result.stderr
    with Image.open(output) as sheet:
        assert sheet.size[0] > 300
    assert str(output) in result.stdout
    wrong = run("preview", "configs/cifar10.py", synthetic, "--output=sheet.gif")
    assert wrong.returncode == 2
    assert "sheet.gif" in wrong.stderr
