"""Rotated photographs: only the orientation tag counts, however odd the others are."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from clonalnet_jax.data.images import Rows, decode
from clonalnet_jax.data.orientation import read_orientation, turn_upright

ORIENTATION = 0x0112
SIZES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 10: "ii"}


def exif(*fields, order="<", turned=6):
    """EXIF data of the given `(tag, type, count, four bytes)` and an orientation."""
    rows = [(ORIENTATION, 3, 1, struct.pack(f"{order}HH", turned, 0)), *fields]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = mark + struct.pack(f"{order}IH", 8, len(rows))
    for tag, kind, count, value in sorted(rows):
        body += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + body + b"\0" * 16


# What cameras and editors have written, each of which Pillow cannot write back.
ODD = {
    "a resolution in letters": (0x011A, 2, 4, b"abc\0"),
    "a reference of GPS that is a rational": (0x8825, 4, 1, struct.pack("<I", 8)),
    "a signed bias beside an unsigned type": (0x9204, 10, 1, b"\xff\xff\xff\xff"),
    "a type that is not one": (0x010F, 99, 1, b"abc"),
    "a field that lies beyond the end": (0x010F, 2, 10**6, b"\xff\xff\0\0"),
    "sixty thousand values": (0x9286, 7, 60_000, b"\0\0\0\x7f"),
    "a link to an IFD that is itself": (0x8769, 4, 1, struct.pack("<I", 8)),
}


def picture():
    y, x = np.mgrid[:30, :40]
    pixels = np.stack([6 * x, 8 * y, 255 - 6 * x], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def encode(format, data):
    file = io.BytesIO()
    picture().save(file, format, exif=data)
    return file.getvalue()


# Pillow looks for a resolution when it opens a JPEG file, and warns of what it meets.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("field", ODD.values(), ids=ODD)
def test_odd_fields_beside_the_orientation_change_nothing(format, field):
    encoded = encode(format, exif(field))
    plain = decode(encode(format, exif(turned=1)))
    for channels in (1, 3):
        assert decode(encoded, channels=channels).shape == (40, 30, channels)
    np.testing.assert_array_equal(decode(encoded), np.rot90(plain, -1))
    np.testing.assert_array_equal(Rows(encoded).decode(7, 19), decode(encoded)[7:19])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "data",
    [
        b"Exif\0\0",
        b"Exif\0\0rubbish",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        exif(turned=0),
        exif(turned=9),
        exif(turned=1),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_an_image_whose_exif_says_nothing_is_read_as_it_is_stored(format, data):
    assert decode(encode(format, data)).shape == (30, 40, 3)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"])
def test_the_orientation_is_that_which_pillow_reads(turned, order, mark):
    data = exif(order=order, turned=turned)
    theirs = Image.Exif()
    theirs.load(data)
    assert read_orientation(mark + data[6:]) == theirs[ORIENTATION] == turned


@pytest.mark.parametrize(("kind", "layout"), [(1, "B"), (3, "H"), (4, "I")])
def test_the_orientation_may_have_any_unsigned_type(kind, layout):
    body = b"II*\0" + struct.pack("<IHHHI", 8, 1, ORIENTATION, kind, 1)
    assert read_orientation(body + struct.pack(f"<{layout}", 8).ljust(4, b"\0")) == 8


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_an_orientation(data, marked):
    assert read_orientation((b"Exif\0\0II*\0" if marked else b"") + data) in range(1, 9)


def test_to_turn_by_nothing_gives_the_same_image():
    pixels = np.asarray(picture())
    assert turn_upright(pixels, 1) is pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(orientation):
    image = picture()
    image.getexif()[ORIENTATION] = orientation
    found = turn_upright(np.asarray(image), orientation)
    np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(image)))


def test_a_rotated_tiff_file_is_turned_once():
    file = io.BytesIO()
    picture().save(file, "TIFF", tiffinfo={ORIENTATION: 6})
    found = decode(file.getvalue())
    np.testing.assert_array_equal(found, np.rot90(np.asarray(picture()), -1))


def test_imagemagicks_way_to_keep_exif_in_a_png_is_read():
    from PIL.PngImagePlugin import PngInfo

    data = exif()
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
    file = io.BytesIO()
    picture().save(file, "PNG", pnginfo=text)
    assert decode(file.getvalue()).shape == (40, 30, 3)
