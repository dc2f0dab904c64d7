"""Crops of JPEG files against the whole image, over the variants of three encoders."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clonalnet_jax.data import jpeg
from clonalnet_jax.data.images import Rows, decode
from clonalnet_jax.data.reencode import reencode

# In the language of cjpeg: components of a scan, and a semicolon after each.
SCANS = {
    "one scan": "0 1 2;",
    "a scan a component": "0; 1; 2;",
    "chroma in a scan of its own": "0; 1 2;",
    "luma with one chroma": "0 1; 2;",
    "chroma first": "2; 1; 0;",
}
RESTARTS = {"none": (), "a row": ("1",), "five blocks": ("5B",), "two rows": ("2",)}
SAMPLINGS = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2"]
SAMPLINGS += ["1x1,2x2,1x1", "2x2,2x1,1x1"]  # chroma finer than luma; and uneven
SIZES = [(61, 45), (64, 96), (7, 130), (131, 9), (1, 1), (200, 17)]


def picture(height, width, mode="RGB"):
    """Bands with noise on them, so that rows and columns differ."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(height).normal(size=(height, width, 3)) * 12
    bands = np.stack([5 * x, 7 * y, 255 - 3 * x], axis=-1) % 256 + noise
    return Image.fromarray(np.clip(bands, 0, 255).astype(np.uint8)).convert(mode)


def cjpeg(image, *options, scans=None, folder=None):
    """Encodes with libjpeg-turbo's program, which writes what no library does."""
    if shutil.which("cjpeg") is None:
        pytest.skip("cjpeg is not installed: Debian's libjpeg-turbo-progs has it")
    command = ["cjpeg", "-quality", "90", *options]
    if scans is not None:
        (folder / "scans").write_text(scans)
        command += ["-scans", str(folder / "scans")]
    file = io.BytesIO()
    image.save(file, "PPM")
    result = subprocess.run(command, input=file.getvalue(), capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def pillow(encoded, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))


def assert_rows_are_those_of_the_whole(encoded, channels=3):
    """Compares every sixth crop of a few heights, at the ends and between."""
    whole = pillow(encoded, "RGB" if channels == 3 else "L")
    whole = whole.reshape(*whole.shape[:2], channels)
    np.testing.assert_array_equal(decode(encoded, channels=channels), whole)
    height = len(whole)
    for top in {0, 1, *range(0, height, 6), height - 1} & set(range(height)):
        for bottom in {top + 1, min(top + 19, height), height}:
            part = Rows(encoded, channels=channels).decode(top, bottom)
            message = f"rows {top} to {bottom}"
            np.testing.assert_array_equal(part, whole[top:bottom], err_msg=message)


@pytest.mark.parametrize("restarts", RESTARTS.values(), ids=RESTARTS)
@pytest.mark.parametrize("scans", SCANS.values(), ids=SCANS)
def test_crops_whatever_the_scans_and_restarts(scans, restarts, tmp_path):
    every = [word for count in restarts for word in ("-restart", count)]
    for sampling in ("1x1", "2x2", "2x1"):
        options = ("-sample", sampling, *every)
        encoded = cjpeg(picture(61, 45), *options, scans=scans, folder=tmp_path)
        assert_rows_are_those_of_the_whole(encoded)
        header = jpeg.read_header(encoded)
        assert header.sequential == (scans == SCANS["one scan"])


@pytest.mark.parametrize("restarts", RESTARTS.values(), ids=RESTARTS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_crops_whatever_the_sampling(sampling, restarts):
    every = [word for count in restarts for word in ("-restart", count)]
    encoded = cjpeg(picture(61, 45), "-sample", sampling, *every)
    assert_rows_are_those_of_the_whole(encoded)


@pytest.mark.parametrize("coding", ["-progressive", "-arithmetic", "-optimize", "-rgb"])
@pytest.mark.parametrize("restarts", RESTARTS.values(), ids=RESTARTS)
def test_crops_whatever_the_coding(coding, restarts):
    every = [word for count in restarts for word in ("-restart", count)]
    encoded = cjpeg(picture(50, 70), coding, *every)
    assert_rows_are_those_of_the_whole(encoded)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("sampling", ["1x1", "2x2", "1x2"])
def test_crops_whatever_the_size(size, sampling):
    for restart in ((), ("-restart", "1")):
        encoded = cjpeg(picture(*size), "-sample", sampling, *restart)
        assert_rows_are_those_of_the_whole(encoded)


@pytest.mark.parametrize("restart", [(), ("-restart", "1"), ("-restart", "3B")])
@pytest.mark.parametrize("sampling", ["1x1", "2x2"])
def test_crops_of_grey_files(sampling, restart):
    encoded = cjpeg(picture(61, 45), "-grayscale", "-sample", sampling, *restart)
    assert_rows_are_those_of_the_whole(encoded)
    assert_rows_are_those_of_the_whole(encoded, channels=1)


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3},
        {"quality": 100, "subsampling": 0},
        {"keep_rgb": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_of_pillows_files(mode, options, channels):
    if mode == "CMYK" and "keep_rgb" in options:
        pytest.skip("only RGB can be kept")
    file = io.BytesIO()
    picture(61, 45, mode).save(file, "JPEG", **options)
    assert_rows_are_those_of_the_whole(file.getvalue(), channels)


def test_crops_of_ycck_files():
    # The mark of Adobe's YCCK; the same data, read as another colour space.
    file = io.BytesIO()
    picture(61, 45, "CMYK").save(file, "JPEG")
    encoded = bytearray(file.getvalue())
    at = encoded.index(b"Adobe")
    encoded[at + 11] = 2
    assert_rows_are_those_of_the_whole(bytes(encoded))


@pytest.mark.parametrize("restart", [0, 1, 4, 6])
@pytest.mark.parametrize("progressive", [0, 1])
def test_crops_of_opencvs_files(restart, progressive):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    options = [cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    options += [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    for sampling in (0x411111, 0x420000, 0x221111, 0x211111, 0x111111):
        chosen = [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        if sampling == 0x420000:
            chosen = options
        done, encoded = cv2.imencode(".jpg", np.asarray(picture(61, 45)), chosen)
        assert done
        assert_rows_are_those_of_the_whole(encoded.tobytes())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.data())
def test_a_file_whose_restart_markers_are_out_of_turn_is_not_cut(height, width, draw):
    image, file = picture(height, width), io.BytesIO()
    image.save(file, "JPEG", restart_marker_rows=1, subsampling=0)
    encoded = bytearray(file.getvalue())
    header = jpeg.read_header(bytes(encoded))
    assert header.restarts
    marks = [
        at
        for at in range(header.scan_at, len(encoded) - 1)
        if encoded[at] == 0xFF and 0xD0 <= encoded[at + 1] <= 0xD7
    ]
    if not marks:
        return
    encoded[draw.draw(st.sampled_from(marks)) + 1] = 0xD0 + draw.draw(st.integers(0, 7))
    data = bytes(encoded)
    top = draw.draw(st.integers(0, height - 1))
    bottom = draw.draw(st.integers(top + 1, height))
    np.testing.assert_array_equal(
        Rows(data).decode(top, bottom), decode(data)[top:bottom]
    )


def test_a_prepared_file_is_still_cut():
    file = io.BytesIO()
    picture(400, 500).save(file, "PNG")
    encoded = reencode(file.getvalue(), 400, 90)
    header = jpeg.read_header(encoded)
    assert header.sequential
    assert header.restarts
    part, _ = jpeg.cut(encoded, header, 200, 216)
    assert len(part) < len(encoded) / 4
