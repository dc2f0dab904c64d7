"""Metrics against scikit-learn and against cases worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from clonalnet_jax.analysis.metrics import metric_sums, summarise
from clonalnet_jax.training.evaluation import summarise_batches


def metrics(logits, labels, mask=None):
    mask = np.ones(len(labels), np.float32) if mask is None else mask
    return summarise(metric_sums(jnp.asarray(logits), jnp.asarray(labels), mask))


def test_metrics_equal_scikit_learn(rng):
    logits, labels = rng.normal(size=(200, 12)), rng.integers(12, size=200)
    result = metrics(logits, labels)
    classes = np.arange(12)
    for name, k in (("top1", 1), ("top5", 5)):
        expected = 100 * top_k_accuracy_score(labels, logits, k=k, labels=classes)
        np.testing.assert_allclose(result[name], expected, rtol=1e-6)
    probs = np.asarray(jax.nn.softmax(logits))
    expected = log_loss(labels, probs, labels=classes)
    np.testing.assert_allclose(result["nll"], expected, rtol=1e-4)


def test_ece_of_a_case_worked_out_by_hand():
    # Confidence 0.9 and right half of the time; 0.6 and always right.
    probs = np.asarray([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    result = metrics(np.log(probs), np.asarray([0, 1, 0, 0]))
    np.testing.assert_allclose(result["ece"], 100 * (0.4 * 0.5 + 0.4 * 0.5), rtol=1e-5)


def test_padding_does_not_count(rng):
    logits, labels = rng.normal(size=(10, 4)), rng.integers(4, size=10)
    mask = np.asarray([1] * 7 + [0] * 3, np.float32)
    assert metrics(logits, labels, mask) == pytest.approx(
        metrics(logits[:7], labels[:7]), rel=1e-5
    )


def test_sums_merge_to_the_whole(rng):
    logits, labels = rng.normal(size=(10, 4)), rng.integers(4, size=10)
    mask = jnp.ones(10)
    parts = [
        metric_sums(logits[i], labels[i], mask[i]) for i in (slice(0, 3), slice(3, 10))
    ]
    whole = metric_sums(logits, labels, mask)
    assert summarise(parts[0] + parts[1]) == pytest.approx(summarise(whole), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_dead_network_does_not_look_perfect(value):
    labels = np.arange(20) % 10
    result = metrics(np.full((20, 10), value, np.float32), labels)
    assert result["top1"] == pytest.approx(10.0)
    assert result["top5"] == pytest.approx(50.0)


def test_top5_of_three_classes_is_everything():
    assert metrics(np.eye(3), np.asarray([1, 2, 0]))["top5"] == pytest.approx(100.0)


def test_evaluate_sums_over_batches(rng):
    logits, labels = rng.normal(size=(12, 4)), rng.integers(4, size=12)
    batches = [
        {"logits": logits[i : i + 4], "label": labels[i : i + 4]} for i in (0, 4, 8)
    ]
    result = summarise_batches(
        lambda _, batch: metric_sums(batch["logits"], batch["label"], jnp.ones(4)),
        None,
        batches,
    )
    assert result == pytest.approx(metrics(logits, labels), rel=1e-5)
