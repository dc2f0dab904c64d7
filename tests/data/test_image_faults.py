"""Damaged files of every kind: pixels or a refusal, soon, and in little memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clonalnet_jax.data.images import BadImageError, decode
from tests.data import image_faults

ROOT = Path(__file__).parent.parent.parent
FILES = image_faults.make_files()
REFUSED = {"float TIFF", "32-bit TIFF", "Windows icon", "PostScript", "Targa", "PDF"}


def test_there_are_at_least_twenty_kinds_that_are_read():
    assert len(sorted(FILES.keys() - REFUSED)) >= 20
    assert FILES.keys() > REFUSED


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(FILES.keys() - REFUSED))
def test_a_whole_file_has_the_pixels_of_the_picture(name, channels):
    found = decode(FILES[name], channels=channels)
    shape = (53, 37, channels) if "rotated" in name else (37, 53, channels)
    assert found.shape == shape
    if "16-bit" in name:
        assert (found.min(), found.max()) == (0, 255)
        assert (np.diff(found[..., 0].ravel().astype(int)) >= 0).all()
    elif "rotated" not in name and "GIF" not in name and "palette" not in name:
        mode = "RGB" if channels == 3 else "L"
        kind = "1" if name in ("bilevel PNG", "bilevel TIFF", "PBM") else mode
        kind = "L" if "grey" in name else kind
        expected = np.asarray(image_faults.picture(kind).convert(mode), int)
        assert np.abs(found.reshape(expected.shape) - expected).mean() < 8


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_read_is_refused_by_name(name):
    expected = "pixels of 32 bits" if "TIFF" in name else "not one of JPEG, PNG"
    with pytest.raises(BadImageError, match=expected):
        decode(FILES[name])


@pytest.mark.parametrize("name", ["animated GIF", "animated WebP", "TIFF of pages"])
def test_of_several_frames_the_first_is_read(name):
    # The second one is red all over.
    assert decode(FILES[name])[..., 2].mean() > 50


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_read_or_refused_in_little_time_and_memory(seed):
    # In a process of its own: a hang or a crash of a decoder would end the tests.
    command = [sys.executable, "-W", "ignore", "tests/data/image_faults.py"]
    result = subprocess.run(
        [*command, "700", str(seed)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    *counts, mebibytes = result.stdout.split()
    found = {name: int(n) for name, n in (pair.split("=") for pair in counts)}
    assert sum(found.values()) == 700
    assert min(found["pixels"], found["refused"]) > 200
    assert int(mebibytes) < 600
