"""A loaded network: from images in memory to probabilities."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.trained import classifier as module
from clonalnet_jax.trained.classifier import Classifier
from clonalnet_jax.trained.network import Network
from clonalnet_jax.workdir.checkpoints import Meta

SHAPE, NAMES = (4, 6, 3), ["cat", "dog"]


class Mean(nn.Module):
    """A network whose logits are the mean of its input, and its negative."""

    @nn.compact
    def __call__(self, images, train):
        """Logits."""
        del train
        mean = images.mean(axis=(1, 2, 3))
        return jnp.stack([mean, -mean], axis=-1)


@pytest.fixture
def classifier():
    meta = Meta("mean", {}, NAMES, list(SHAPE), method="clone", num_steps=1)
    return Classifier(Network(Mean(), {}, meta), (0.5,), (0.25,))


@pytest.fixture
def images(rng):
    return rng.integers(256, size=(5, *SHAPE), dtype=np.uint8)


def test_bytes_and_floats_of_the_same_images_say_the_same(classifier, images):
    expected = (images / 255 - 0.5).mean(axis=(1, 2, 3)) / 0.25
    logits = classifier.logits(images)
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-6)
    for dtype in (np.float32, np.float64):
        floats = (images / 255).astype(dtype)
        np.testing.assert_allclose(classifier.logits(floats), logits, atol=1e-6)
    assert (logits.dtype, logits.shape) == (np.float32, (5, 2))


def test_probabilities_are_those_of_the_classes_by_name(classifier, images):
    probabilities = classifier.predict(jnp.asarray(images))
    expected = jax.nn.softmax(classifier.logits(images))
    np.testing.assert_allclose(probabilities, expected, atol=1e-7)
    assert classifier.class_names == ("cat", "dog")
    assert classifier.image_shape == SHAPE


@pytest.mark.parametrize("count", [0, 1, 256, 257])
def test_however_many_images_are_taken_in_batches_of_one_program(
    classifier, images, count
):
    many = np.resize(images, (count, *SHAPE))
    logits = classifier.logits(many)
    assert logits.shape == (count, 2)
    alone = [classifier.logits(many[i : i + 1])[0] for i in (0, count - 1) if count]
    if count:
        np.testing.assert_allclose(logits[[0, -1]], alone, atol=1e-6)
    assert classifier._jitted._cache_size() <= 2
    assert module._BATCH == 256


def test_grey_images_need_no_axis_of_channels(images):
    meta = Meta("mean", {}, NAMES, [*SHAPE[:2], 1], method="clone", num_steps=1)
    classifier = Classifier(Network(Mean(), {}, meta), (0.5,), (0.25,))
    grey = images[..., 0]
    expected = classifier.logits(grey[..., None])
    np.testing.assert_array_equal(classifier.logits(grey), expected)
    with pytest.raises(UserError, match=r"expected: images \[b, 4, 6, 1\]"):
        classifier.logits(grey[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((5, 6, 4, 3), np.uint8), r"shape \[5, 6, 4, 3\]"),
        (np.zeros(SHAPE, np.uint8), r"expected: images \[b, 4, 6, 3\]"),
        (np.full((1, *SHAPE), 255.0), r"float64 from 255\.0 to 255\.0"),
        (np.full((1, *SHAPE), -0.5), "divide them by 255"),
        (np.full((1, *SHAPE), np.nan), "from nan"),
        (np.zeros((1, *SHAPE), np.int64), "int64"),
        (np.zeros((1, *SHAPE), bool), "bool"),
    ],
)
def test_images_that_would_be_misunderstood_are_refused(classifier, wrong, message):
    with pytest.raises(UserError, match=message):
        classifier.logits(wrong)
