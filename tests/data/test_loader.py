"""Batches as a function of (seed, step)."""

import numpy as np
import pytest

from clonalnet_jax.data import loader
from clonalnet_jax.data.sources import Arrays


@pytest.fixture
def source(rng) -> Arrays:
    images = rng.integers(256, size=(10, 4, 4, 1), dtype=np.uint8)
    return Arrays(images, np.arange(10, dtype=np.int32))


def batches(source, *, start=0, stop=10, seed=3, threads=1):
    return list(
        loader.train_batches(
            source,
            batch_size=4,
            seed=seed,
            start_step=start,
            num_steps=stop,
            threads=threads,
        )
    )


def column(found, name):
    return np.concatenate([batch[name] for batch in found])


def test_every_epoch_holds_every_example_once_in_another_order(source):
    found = batches(source)
    order = column(found, "index").reshape(4, 10)
    for epoch in order:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in order}) == 4
    np.testing.assert_array_equal(column(found, "epoch"), np.repeat(np.arange(4), 10))


def test_images_and_labels_stay_together(source):
    found = batches(source)
    index = column(found, "index")
    np.testing.assert_array_equal(column(found, "image"), source.image[index])
    np.testing.assert_array_equal(column(found, "label"), source.label[index])


@pytest.mark.parametrize("start", [1, 3, 9])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_resumed_run_sees_what_the_whole_one_would_have(source, start, threads):
    whole = batches(source)
    resumed = batches(source, start=start, threads=threads)
    assert len(resumed) == 10 - start
    for one, other in zip(whole[start:], resumed, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_seeds_give_different_orders(source):
    one, other = (column(batches(source, seed=s), "index") for s in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(source, monkeypatch, processes):
    whole = column(batches(source), "index").reshape(-1, 4)
    shares = []
    for process in range(processes):
        monkeypatch.setattr(loader.jax, "process_count", lambda: processes)
        monkeypatch.setattr(loader.jax, "process_index", lambda p=process: p)
        shares.append(column(batches(source), "index").reshape(len(whole), -1))
    np.testing.assert_array_equal(
        np.sort(np.concatenate(shares, axis=1)), np.sort(whole)
    )


@pytest.mark.parametrize("batch_size", [1, 4, 10, 16])
def test_evaluation_counts_every_example_exactly_once(source, batch_size):
    found = list(loader.eval_batches(source, batch_size=batch_size, threads=2))
    mask, label = column(found, "mask"), column(found, "label")
    np.testing.assert_array_equal(np.sort(label[mask == 1]), np.arange(10))
    assert all(len(batch["label"]) == batch_size for batch in found)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_ahead_draws_before_it_is_asked_and_keeps_the_order(count):
    drawn = []

    def items():
        for item in range(4):
            drawn.append(item)
            yield item

    iterator = loader.ahead(items(), count)
    assert next(iterator) == 0
    assert len(drawn) == min(count + 1, 4)
    assert list(iterator) == [1, 2, 3]
