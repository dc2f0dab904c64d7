"""Image files of every kind come out upright, in RGB, and whole or not at all."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clonalnet_jax.data import jpeg
from clonalnet_jax.data.images import BadImageError, Rows, decode
from clonalnet_jax.data.reencode import reencode


def picture(height=50, width=70, mode="RGB"):
    """Something smooth, which JPEG keeps well, with a coarse texture on it."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(size=(height, width, 3)) * 8
    bands = np.stack([2 * x, 3 * y, 255 - 2 * x], axis=-1) + noise
    image = Image.fromarray(np.clip(bands, 0, 255).astype(np.uint8))
    return image.convert(mode)


def encode(image, format="JPEG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pillow(data, mode="RGB"):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert(mode))


JPEGS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 2},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_files_have_pillows_pixels(mode, options):
    if mode == "L" and "subsampling" in options:
        pytest.skip("grey has no chroma")
    data = encode(picture(mode=mode), quality=90, **options)
    np.testing.assert_array_equal(decode(data), pillow(data))


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("CMYK", "JPEG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("RGB", "WEBP"),
        ("RGBA", "WEBP"),
        ("RGB", "BMP"),
        ("P", "BMP"),
    ],
)
def test_every_colour_mode_comes_out_as_rgb(mode, format):
    data = encode(picture(mode=mode), format)
    found = decode(data)
    assert found.shape == (50, 70, 3)
    np.testing.assert_array_equal(found, pillow(data))


def test_a_transparent_palette_comes_out_as_rgb():
    data = encode(picture(mode="P"), "PNG", transparency=b"\x00" * 5)
    assert decode(data).shape == (50, 70, 3)


def test_16_bits_come_out_as_8():
    wide = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = decode(encode(Image.fromarray(wide), "PNG"))
    assert found.shape == (16, 16, 3)
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found[..., 0].ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_rotated_images_come_out_upright(orientation, format):
    image = picture()
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encode(image, format, exif=exif)
    assert decode(data).shape == ((50, 70, 3) if orientation < 5 else (70, 50, 3))
    np.testing.assert_array_equal(decode(data), pillow(data))
    rows = Rows(data)
    assert (rows.height, rows.width) == decode(data).shape[:2]
    np.testing.assert_array_equal(rows.decode(10, 30), decode(data)[10:30])


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "JPEG"), ("RGB", "JPEG"), ("L", "PNG")]
)
def test_grey_on_request(mode, format):
    data = encode(picture(mode=mode), format)
    np.testing.assert_array_equal(decode(data, channels=1)[..., 0], pillow(data, "L"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(format, kept):
    data = encode(picture(), format)
    data = data[: int(kept * len(data))]
    with pytest.raises(BadImageError):
        decode(data)
    with pytest.raises(BadImageError):
        Rows(data).decode(0, 10)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\xff\xd8\xff\xd9", b"\xff\xd8" + b"\x00" * 64 + b"\xff\xd9"],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(BadImageError):
        decode(data)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@settings(max_examples=40, deadline=None)
@given(rows=st.data())
def test_some_rows_are_those_of_the_whole_image(options, rows):
    data = encode(picture(133, 61), quality=90, **options)
    top = rows.draw(st.integers(0, 132))
    bottom = rows.draw(st.integers(top + 1, 133))
    np.testing.assert_array_equal(
        Rows(data).decode(top, bottom), pillow(data)[top:bottom]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.data())
def test_rows_of_prepared_files_of_any_size(height, width, rows):
    data = reencode(encode(picture(height, width), "PNG"), 400, 90)
    top = rows.draw(st.integers(0, height - 1))
    bottom = rows.draw(st.integers(top + 1, height))
    np.testing.assert_array_equal(
        Rows(data).decode(top, bottom), pillow(data)[top:bottom]
    )


def test_a_few_rows_take_a_small_part_of_a_prepared_file():
    data = reencode(encode(picture(400, 500), "PNG"), 400, 90)
    header = jpeg.read_header(data)
    part, first = jpeg.cut(data, header, 200, 216)
    assert len(part) < 0.25 * len(data)
    assert 0 <= first <= 16
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(part)))[first : first + 16],
        pillow(data)[200:216],
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_decoded_or_refused_but_nothing_else(damage):
    data = bytearray(encode(picture(40, 40), restart_marker_rows=1))
    for _ in range(damage.draw(st.integers(1, 4))):
        data[damage.draw(st.integers(0, len(data) - 1))] = damage.draw(
            st.integers(0, 255)
        )
    for read in (decode, lambda data: Rows(data).decode(0, 1)):
        with contextlib.suppress(BadImageError):
            assert read(bytes(data)).dtype == np.uint8


@pytest.mark.parametrize("offset", [5, 7, 9, 11])
def test_a_header_that_says_impossible_things_is_refused(offset):
    data = bytearray(encode(picture(40, 40), restart_marker_rows=1))
    at = jpeg.read_header(bytes(data)).height_at - 5 + offset
    # No height, no width, no components, a component without samples.
    data[at : at + 2] = b"\0\0" if offset < 9 else bytes((0, data[at + 1]))
    assert jpeg.read_header(bytes(data)) is None
    with pytest.raises(BadImageError):
        Rows(bytes(data))


def test_pixels_pass_through():
    pixels = np.asarray(picture())
    rows = Rows(pixels)
    assert (rows.height, rows.width) == (50, 70)
    np.testing.assert_array_equal(rows.decode(3, 9), pixels[3:9])
