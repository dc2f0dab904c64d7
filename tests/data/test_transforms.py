"""Crops, resizes and colours on the host."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clonalnet_jax.data.photometric import OPERATIONS, jitter_color, rand_augment
from clonalnet_jax.data.transforms import crop_box, eval_transform, train_transform

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
SIDES = st.integers(1, 400)


def noise(height, width, channels=3):
    pixels = np.random.default_rng(height * width)
    return pixels.integers(256, size=(height, width, channels), dtype=np.uint8)


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_a_crop_lies_in_the_image(height, width, seed):
    rng = np.random.default_rng(seed)
    top, left, h, w = crop_box(rng, height, width, SCALE, RATIO)
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h > 0
    assert w > 0


def test_crops_have_the_areas_and_ratios_asked_for():
    rng = np.random.default_rng(0)
    boxes = [crop_box(rng, 1000, 1000, (0.1, 0.5), (0.8, 1.25)) for _ in range(2000)]
    _, _, height, width = np.asarray(boxes).T
    area, ratio = height * width / 1e6, width / height
    from scipy import stats

    # All of them fit, so that the draws are what they were drawn from.
    assert stats.kstest(area, stats.uniform(0.1, 0.4).cdf).pvalue > 0.01
    low, high = np.log(0.8), np.log(1.25)
    uniform = stats.uniform(low, high - low)
    assert stats.kstest(np.log(ratio), uniform.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10))],
)
def test_a_strip_is_cropped_in_its_centre(shape, expected):
    box = crop_box(np.random.default_rng(0), *shape, (1.0, 1.0), RATIO)
    assert box == expected


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@settings(max_examples=60, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.integers(8, 64))
def test_evaluation_is_a_resize_and_a_centre_crop(interpolation, height, width, size):
    # In the middle of the range: where bicubic overshoots it, Pillow's result depends
    # on which way it goes first, which the box may change.
    pixels, resize_size = 96 + noise(height, width) // 4, round(size * 8 / 7)
    found = eval_transform(
        pixels, size=size, resize_size=resize_size, interpolation=interpolation
    )
    shorter = min(height, width)
    new = (resize_size * width // shorter, resize_size * height // shorter)
    filters = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
    }
    whole = np.asarray(Image.fromarray(pixels).resize(new, filters[interpolation]))
    top, left = round((new[1] - size) / 2), round((new[0] - size) / 2)
    expected = whole[top : top + size, left : left + size]
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_and_its_pixels_give_the_same(channels):
    pixels = noise(90, 120, channels)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    for image in (pixels, file.getvalue()):
        options = {"size": 32, "channels": channels}
        train = train_transform(image, np.random.default_rng(3), **options)
        test = eval_transform(image, resize_size=36, **options)
        assert train.shape == test.shape == (32, 32, channels)
        if image is pixels:
            expected = train, test
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])


def test_a_crop_of_all_there_is_only_resizes():
    pixels = noise(64, 64)
    found = train_transform(
        pixels, np.random.default_rng(0), size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0)
    )
    expected = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interpolation": "bicubic"},
        {"color_jitter": (0.4, 0.4, 0.4, 0.1)},
        {"rand_augment_layers": 2},
    ],
)
def test_only_the_generator_decides(options):
    def view(seed):
        rng = np.random.default_rng(seed)
        return train_transform(noise(80, 60), rng, size=32, **options)

    np.testing.assert_array_equal(view(0), view(0))
    assert (view(0) != view(1)).any()


@pytest.mark.parametrize("change", range(4))
def test_jitter_of_no_strength_changes_nothing(change):
    image = Image.fromarray(noise(16, 16))
    strengths = [0.0] * 4
    same = jitter_color(image, np.random.default_rng(0), tuple(strengths))
    np.testing.assert_array_equal(same, image)
    strengths[change] = 0.3
    other = jitter_color(image, np.random.default_rng(0), tuple(strengths))
    assert (np.asarray(other) != np.asarray(image)).any()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_size_and_mode(name, mode):
    image = Image.fromarray(noise(20, 20)).convert(mode)
    operation = OPERATIONS[name]
    values = operation.magnitudes(20) if operation.magnitudes else [0.0]
    for value in values:
        result = operation.apply(image, float(value))
        assert (result.size, result.mode) == (image.size, image.mode)
    strongest = np.asarray(operation.apply(image, float(values[-1])))
    if name not in ("Identity", "AutoContrast") and not (
        name == "Color" and mode == "L"
    ):
        assert (strongest != np.asarray(image)).any()


def test_every_operation_is_drawn_about_equally_often(monkeypatch):
    drawn = []
    for name, operation in list(OPERATIONS.items()):
        counted = operation._replace(
            apply=lambda image, _, name=name: drawn.append(name) or image
        )
        monkeypatch.setitem(OPERATIONS, name, counted)
    rand_augment(Image.new("RGB", (8, 8)), np.random.default_rng(0), 2800, 9)
    counts = np.asarray([drawn.count(name) for name in OPERATIONS])
    # Chi-squared with 13 degrees of freedom: 34.5 is its 99.9th percentile.
    assert ((counts - 200) ** 2 / 200).sum() < 34.5
