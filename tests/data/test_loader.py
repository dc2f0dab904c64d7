"""Batches as a function of (seed, step), whoever reads them."""

import io

import numpy as np
import pytest
from PIL import Image

from clonalnet_jax.data import loader
from clonalnet_jax.data.loader import Loading
from clonalnet_jax.data.reader import Reader
from clonalnet_jax.data.records import StoredImage
from clonalnet_jax.data.sources import Images, UnreadableImageError
from clonalnet_jax.errors import UserError
from tests.marks import quickly

SHAPE = (4, 4, 3)


class Memory:
    """Ten PNG files in memory, each of its own grey; those of `broken` are cut off."""

    def __init__(self, size=10, broken=()):
        self.size, self.broken = size, broken

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        file = io.BytesIO()
        pixels = np.full((12, 16, 3), index, np.uint8)
        pixels[:, :8] += 100
        Image.fromarray(pixels).save(file, "PNG")
        cut = 40 if index in self.broken else None
        return StoredImage(file.getvalue()[:cut], index % 7)

    def name(self, index):
        """What to call it."""
        return f"file {index}"

    def labels(self):
        """Every label."""
        return np.arange(self.size, dtype=np.int32) % 7


def make_source(size=10, broken=()):
    reader = Reader(size=4, resize_size=5)
    return Images(Memory(size, broken), np.arange(size), reader)


def make_loading(threads=1, workers=0, on_error="raise"):
    return Loading(SHAPE, on_error, threads, workers)


def batches(source=None, *, start=0, stop=10, seed=3, loading=None):
    source = source or make_source()
    loading = loading or make_loading()
    where = {"batch_size": 4, "seed": seed, "start_step": start, "num_steps": stop}
    return list(loader.train_batches(source, loading, **where))


def column(found, name):
    return np.concatenate([batch[name] for batch in found])


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_every_epoch_holds_every_example_once_in_another_order():
    found = batches()
    order = column(found, "index").reshape(4, 10)
    for epoch in order:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in order}) == 4
    np.testing.assert_array_equal(column(found, "epoch"), np.repeat(np.arange(4), 10))


def test_no_epoch_of_a_seed_has_the_order_of_an_epoch_of_another():
    orders = {
        tuple(order)
        for seed in range(5)
        for order in column(batches(seed=seed), "index").reshape(4, 10)
    }
    assert len(orders) == 20


def test_images_and_labels_stay_together():
    found = batches()
    index = column(found, "index")
    np.testing.assert_array_equal(column(found, "label"), index % 7)
    # A crop may lie in either half of the image, or in both.
    grey = column(found, "image").astype(int) - index[:, None, None, None]
    assert grey.min() == 0
    assert grey.max() == 100


@pytest.mark.parametrize("start", [1, 3, 9])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_resumed_run_sees_what_the_whole_one_would_have(start, threads):
    resumed = batches(start=start, loading=make_loading(threads))
    assert_same(resumed, batches()[start:])


@pytest.mark.parametrize("workers", quickly([1, 2], [2]))
def test_workers_change_nothing(workers):
    assert_same(batches(loading=make_loading(workers=workers)), batches())


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch_block_by_block(monkeypatch, processes):
    whole, shares = batches(), []
    for process in range(processes):
        monkeypatch.setattr(loader.jax, "process_count", lambda: processes)
        monkeypatch.setattr(loader.jax, "process_index", lambda p=process: p)
        shares.append(batches())
    joined = [
        {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
        for blocks in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_an_example_is_augmented_by_seed_epoch_and_index_alone():
    views = {}
    for batch in batches():
        for row, image in enumerate(batch["image"]):
            views[batch["epoch"][row], batch["index"][row]] = image
    rng = np.random.default_rng((3, 2, 7))
    np.testing.assert_array_equal(views[2, 7], make_source().augmented(7, rng).image)
    assert len({view.tobytes() for (_, i), view in views.items() if i == 7}) == 4


def test_indices_are_those_of_the_batches():
    where = {"batch_size": 4, "seed": 3, "start_step": 2, "num_steps": 10}
    indices = list(loader.train_indices(10, **where))
    expected = [{k: b[k] for k in ("index", "epoch")} for b in batches(start=2)]
    assert_same(indices, expected)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 16])
@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_counts_every_example_exactly_once(
    monkeypatch, batch_size, processes
):
    if batch_size % processes:
        pytest.skip("a batch is split evenly over the processes")
    found = []
    for process in range(processes):
        monkeypatch.setattr(loader.jax, "process_count", lambda: processes)
        monkeypatch.setattr(loader.jax, "process_index", lambda p=process: p)
        evaluation = loader.eval_batches(
            make_source(), make_loading(), batch_size=batch_size
        )
        found += list(evaluation)
    mask, index = column(found, "mask"), column(found, "index")
    np.testing.assert_array_equal(np.sort(index[mask == 1]), np.arange(10))
    np.testing.assert_array_equal(
        column(found, "label")[mask == 1], index[mask == 1] % 7
    )
    assert all(len(batch["label"]) == batch_size // processes for batch in found)


def test_5000_images_in_batches_of_96_count_once_on_8_devices():
    found = list(loader.eval_indices(5000, batch_size=96))
    assert len(found) == 53
    assert all(len(batch["index"]) % 8 == 0 for batch in found)
    counted = column(found, "index")[column(found, "mask") == 1]
    np.testing.assert_array_equal(counted, np.arange(5000))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(workers):
    with pytest.raises(UnreadableImageError, match="file 6"):
        batches(make_source(broken=(6,)), loading=make_loading(workers=workers))


def test_skipping_puts_the_next_image_in_its_place():
    found = batches(make_source(broken=(6,)), loading=make_loading(on_error="skip"))
    skipped, index = column(found, "skipped"), column(found, "index")
    np.testing.assert_array_equal(skipped, index == 6)
    expected = np.where(index == 6, 7, index) % 7
    np.testing.assert_array_equal(column(found, "label"), expected)


def test_skipping_leaves_an_image_out_of_the_evaluation():
    loading = make_loading(on_error="skip")
    source = make_source(broken=(6,))
    found = list(loader.eval_batches(source, loading, batch_size=4))
    assert column(found, "mask").sum() == 9
    np.testing.assert_array_equal(np.flatnonzero(column(found, "skipped")), [6])


def test_a_source_without_a_single_image_stops_even_when_skipping():
    with pytest.raises(UserError, match="file"):
        batches(make_source(3, (0, 1, 2)), loading=make_loading(on_error="skip"))


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
