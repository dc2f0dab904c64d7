"""Augmentation: what it may do, and that only (seed, epoch, index) decide."""

import jax
import numpy as np
import pytest

from clonalnet_jax.data import make_preprocess


@pytest.fixture
def batch(rng):
    return {
        "image": rng.integers(1, 256, size=(16, 6, 6, 3), dtype=np.uint8),
        "label": np.arange(16, dtype=np.int32) % 3,
        "epoch": np.zeros(16, np.int32),
        "index": np.arange(16, dtype=np.int32),
    }


def prepare(batch, key, **kwargs):
    options = {"mean": (0.0,), "std": (1.0,), "crop_padding": 2, "flip": True} | kwargs
    return np.asarray(make_preprocess(**options)(batch, key)[0])


def test_evaluation_only_normalises(batch):
    images = prepare(batch, None, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    expected = (batch["image"] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.1]
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-5)


def test_every_augmented_image_is_a_shift_of_the_image_or_its_mirror(batch):
    images = np.round(prepare(batch, jax.random.key(0)) * 255)
    for image, result in zip(batch["image"], images, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        shifts = [padded[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
        candidates = shifts + [shift[:, ::-1] for shift in shifts]
        assert any((result == candidate).all() for candidate in candidates)


def test_shifts_and_mirrors_are_all_drawn_about_equally_often():
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 3, 1)
    batch = {
        "image": np.repeat(image[None], 5000, axis=0),
        "label": np.zeros(5000, np.int32),
        "epoch": np.zeros(5000, np.int32),
        "index": np.arange(5000, dtype=np.int32),
    }
    images = np.round(prepare(batch, jax.random.key(0), crop_padding=1) * 255)
    _, counts = np.unique(images.reshape(5000, -1), axis=0, return_counts=True)
    assert len(counts) == 18
    # Chi-squared with 17 degrees of freedom: 40.8 is its 99.9th percentile.
    assert ((counts - 5000 / 18) ** 2 / (5000 / 18)).sum() < 40.8


def test_an_example_is_augmented_alike_wherever_it_stands(batch):
    order = np.random.default_rng(1).permutation(16)
    whole = prepare(batch, jax.random.key(0))
    moved = {name: values[order][:5] for name, values in batch.items()}
    np.testing.assert_array_equal(prepare(moved, jax.random.key(0)), whole[order][:5])


@pytest.mark.parametrize("change", ["epoch", "index", "key"])
def test_epoch_index_and_seed_each_change_the_augmentation(batch, change):
    key = jax.random.key(1 if change == "key" else 0)
    other = dict(batch)
    if change != "key":
        other[change] = batch[change] + 100
    assert (prepare(other, key) != prepare(batch, jax.random.key(0))).any()


def test_cutout_blanks_one_square_that_may_leave_the_image(batch):
    images = prepare(batch, jax.random.key(0), cutout=4, crop_padding=0, flip=False)
    blank = (images == 0).all(axis=-1)
    sizes = set()
    for mask in blank:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        assert len(rows) == np.ptp(rows) + 1
        assert len(columns) == np.ptp(columns) + 1
        sizes |= {len(rows), len(columns)}
    assert sizes == {2, 3, 4}


def test_one_more_augmentation_leaves_the_others_as_they_were(batch):
    plain = prepare(batch, jax.random.key(0))
    cut = prepare(batch, jax.random.key(0), cutout=2)
    np.testing.assert_array_equal(cut[cut != 0], plain[cut != 0])
