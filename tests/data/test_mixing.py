"""Mixup and cutmix: labels follow the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clonalnet_jax.configs import default

from clonalnet_jax.data import make_preprocess
from clonalnet_jax.training.methods import make_method

SIZE, CLASSES = 512, 5
ALPHAS = [(0.5, 0.0), (0.0, 1.0), (1.0, 1.0)]


@pytest.fixture
def batch(rng):
    return {
        "image": rng.integers(1, 256, size=(SIZE, 8, 6, 3), dtype=np.uint8),
        "label": np.arange(SIZE, dtype=np.int32) % CLASSES,
        "epoch": np.zeros(SIZE, np.int32),
        "index": np.arange(SIZE, dtype=np.int32),
    }


def mixed(batch, mixup_alpha, cutmix_alpha, key=0):
    prepare = make_preprocess(
        mean=(0.0,),
        std=(1.0,),
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        num_classes=CLASSES,
    )
    images, labels = prepare(batch, jax.random.key(key))
    return np.asarray(images) * 255, np.asarray(labels)


def own_share(labels, batch):
    return labels[np.arange(len(labels)), batch["label"]]


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), ALPHAS)
def test_labels_are_distributions_over_the_two_classes(
    batch, mixup_alpha, cutmix_alpha
):
    _, labels = mixed(batch, mixup_alpha, cutmix_alpha)
    np.testing.assert_allclose(labels.sum(-1), 1.0, rtol=1e-6)
    other = np.roll(batch["label"], 1)
    pair = own_share(labels, batch) + labels[np.arange(SIZE), other]
    np.testing.assert_allclose(pair, 1.0, rtol=1e-6)


def test_mixup_shares_pixels_as_it_shares_labels(batch):
    images, labels = mixed(batch, 0.5, 0.0)
    share = own_share(labels, batch)[:, None, None, None]
    image = batch["image"].astype(np.float32)
    expected = share * image + (1 - share) * np.roll(image, 1, axis=0)
    np.testing.assert_allclose(images, expected, atol=1e-3)


def test_cutmix_pastes_one_box_and_counts_its_pixels(batch):
    images, labels = mixed(batch, 0.0, 1.0)
    pixels, image = np.round(images), batch["image"]
    pasted = (pixels == np.roll(image, 1, axis=0)).all(-1)
    kept = (pixels == image).all(-1)
    assert (pasted | kept).all()
    share = own_share(labels, batch)
    np.testing.assert_allclose(1 - pasted.mean((1, 2)), share, atol=0.03)
    for mask in pasted & ~kept:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()


def test_shares_are_drawn_from_the_beta_distribution(batch):
    from scipy import stats

    share = own_share(mixed(batch, 0.5, 0.0)[1], batch)
    assert stats.kstest(share, stats.beta(0.5, 0.5).cdf).pvalue > 0.01


def test_with_both_each_example_takes_one_of_them(batch):
    images, _ = mixed(batch, 1.0, 1.0)
    image = batch["image"].astype(np.float32)
    whole = np.abs(images - image) < 1e-2
    pasted = np.abs(images - np.roll(image, 1, axis=0)) < 1e-2
    cut = (whole | pasted).all((1, 2, 3)).mean()
    assert 0.4 < cut < 0.6


def test_evaluation_mixes_nothing(batch):
    prepare = make_preprocess(
        mean=(0.0,), std=(1.0,), mixup_alpha=1.0, num_classes=CLASSES
    )
    images, labels = prepare(batch, None)
    np.testing.assert_allclose(images * 255, batch["image"], rtol=1e-6)
    np.testing.assert_array_equal(labels, batch["label"])


@pytest.mark.parametrize(
    "method", ["clone", "cross_entropy", "label_smoothing", "distillation"]
)
def test_every_loss_takes_mixed_labels(rng, method):
    loss_fn = make_method(method, default.get_config()).loss_fn
    logits, baseline_logits = jnp.asarray(rng.normal(size=(2, 6, CLASSES)))
    hard = jnp.asarray([0, 1, 2, 3, 4, 0])
    one_hot = jax.nn.one_hot(hard, CLASSES)
    expected = loss_fn(logits, baseline_logits, hard)
    for name, term in loss_fn(logits, baseline_logits, one_hot).items():
        np.testing.assert_allclose(term, expected[name], rtol=1e-5)
    soft = 0.7 * one_hot + 0.3 * jnp.roll(one_hot, 1, axis=0)
    assert np.isfinite(loss_fn(logits, baseline_logits, soft)["loss"]).all()
