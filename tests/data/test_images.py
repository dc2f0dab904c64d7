"""Image files of every kind come out upright, in RGB, and whole or not at all."""

import contextlib
import io
import resource
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clonalnet_jax.data import jpeg
from clonalnet_jax.data.images import BadImageError, Rows, decode
from clonalnet_jax.data.reader import Reader
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


def declare(encoded, format, side):
    """Writes another size into the header of a file: `side` by `side` pixels."""
    data = bytearray(encoded)
    if format == "JPEG":
        at = jpeg.read_header(encoded).height_at
        data[at : at + 4] = side.to_bytes(2, "big") * 2
    elif format == "PNG":
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif format == "WEBP":
        assert data[12:16] == b"VP8 "
        data[26:30] = side.to_bytes(2, "little") * 2
    elif format == "GIF":
        data[6:10] = side.to_bytes(2, "little") * 2
    elif format == "BMP":
        data[18:26] = side.to_bytes(4, "little") * 2
    elif format == "PPM":
        data = bytearray(data.replace(b"70 50", f"{side} {side}".encode()))
    return bytes(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"])
def test_a_file_that_declares_too_many_pixels_takes_no_memory(format):
    encoded = declare(encode(picture(), format), format, 16_000)
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (decode, Rows):
        with pytest.raises(
            BadImageError, match=r"16000x16000|256,000,000 pixels, which is more"
        ):
            read(encoded)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    # Kibibytes of the whole process: one copy of the pixels would be 750,000.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "JPEG2000"])
def test_the_limit_on_pixels_is_exact_and_may_be_set(format):
    encoded = encode(picture(), format)
    assert decode(encoded, max_pixels=3500).shape == (50, 70, 3)
    for read in (decode, Rows, lambda data, **limit: Reader(**limit)(data, None)):
        with pytest.raises(BadImageError, match=r"config.data.max_pixels = 3,499"):
            read(encoded, max_pixels=3499)


def test_the_limit_may_be_higher_than_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encode(picture(), "PNG"), max_pixels=3500).shape == (50, 70, 3)


def test_a_tile_of_a_tiff_file_counts_too():
    encoded = encode(picture(), "TIFF", tiffinfo={65000: 60_000, 65001: 60_000})
    for written, meant in ((65000, 322), (65001, 323)):  # Pillow writes no tiles
        names = (struct.pack("<HH", tag, 3) for tag in (written, meant))
        encoded = encoded.replace(*names)
    with pytest.raises(BadImageError, match="60000x60000 pixels"):
        decode(encoded)


def test_pixels_whose_range_a_file_does_not_say_are_refused():
    for dtype in (np.float32, np.int32):
        wide = Image.fromarray(np.ones((8, 8), dtype))
        with pytest.raises(BadImageError, match="32 bits"):
            decode(encode(wide, "TIFF"))


def test_16_bits_of_which_zero_is_white_are_turned_round():
    wide = Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16))
    black, white = (
        decode(encode(wide, "TIFF", tiffinfo={262: photometric}))
        for photometric in (1, 0)
    )
    np.testing.assert_array_equal(white, 255 - black)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "YCbCr"])
def test_unusual_modes_become_rgb(mode):
    from clonalnet_jax.data.formats import _eight_bits

    image = picture(mode="RGBA" if mode == "RGBa" else "LA" if mode == "La" else "RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    assert _eight_bits(image, 3).mode == "RGB"
    assert _eight_bits(image, 1).mode == "L"
