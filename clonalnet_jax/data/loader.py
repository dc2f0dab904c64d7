"""Batches as a pure function of (seed, step), for any number of hosts and devices.

There is no iterator state to save. Example number `k` of a run is fixed by the seed
alone, and step `s` takes the numbers from `s * batch_size` on. So the step in a
checkpoint says where the data go on, for any number of hosts, workers and devices.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import grain
import jax
import numpy as np
from absl import flags

from clonalnet_jax.data.sources import (
    DecodedImage,
    Source,
    UnreadableImageError,
    whole_image,
)

Batch = dict[str, np.ndarray]
T = TypeVar("T")


class Loading(NamedTuple):
    """The way in which images are read. It does not change their pixels.

    Attributes:
      shape: Shape of every image, `(height, width, channels)`.
      on_error: `raise`, or `skip` to pass over images that cannot be decoded.
      threads: Number of threads that read ahead, in every worker.
      workers: Number of processes; 0 reads in threads of this one.
    """

    shape: tuple[int, int, int]
    on_error: str
    threads: int
    workers: int


def train_indices(
    size: int, *, batch_size: int, seed: int, start_step: int, num_steps: int
) -> Iterator[Batch]:
    """Yields which examples this process's share of every batch holds.

    Epochs follow each other without a gap: every example comes once per epoch, in an
    order of its own, and a batch may hold the end of one epoch and the start of the
    next.

    Args:
      size: Number of examples.
      batch_size: Size of the global batch, over all processes.
      seed: Seed of the order.
      start_step: Number of steps already done.
      num_steps: Number of steps of the whole run.

    Yields:
      `index` (of the example in its source) and `epoch`, int32 `[b]`, where b is
      `batch_size / processes`.
    """
    share = _share(batch_size)
    for step in range(start_step, num_steps):
        yield _train_indices(size, share, seed, step)


def train_batches(
    source: Source,
    loading: Loading,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
) -> Iterator[Batch]:
    """Yields the examples of `train_indices`, decoded and augmented ahead of time.

    The augmentation of an example depends on (seed, epoch, index) alone.

    Args:
      source: Training examples.
      loading: How to read them.
      batch_size: Size of the global batch, over all processes.
      seed: Seed of order and augmentation.
      start_step: Number of steps already done.
      num_steps: Number of steps of the whole run.

    Yields:
      `image` uint8 `[b, h, w, c]`, `label`, `index`, `epoch`, int32 `[b]`, and
      `skipped`, bool `[b]`, which is True where an image could not be read and the
      next one of the source takes its place.

    Raises:
      UnreadableImageError: An image cannot be read, unless `on_error` is `skip`.
    """
    make = functools.partial(_train_batch, source, loading, _share(batch_size), seed)
    yield from _read(make, range(start_step, num_steps), loading)


def eval_indices(size: int, *, batch_size: int, start_step: int = 0) -> Iterator[Batch]:
    """Yields which examples this process's share holds, each of them exactly once.

    Args:
      size: Number of examples.
      batch_size: Size of the global batch, over all processes.
      start_step: Number of batches to leave out.

    Yields:
      `index` int32 `[b]` and `mask` float32 `[b]`, which is 0 for padding at the end.
    """
    share = _share(batch_size)
    for step in range(start_step, -(-size // batch_size)):
        yield _eval_indices(size, share, step)


def eval_batches(
    source: Source, loading: Loading, *, batch_size: int, start_step: int = 0
) -> Iterator[Batch]:
    """Yields the examples of `eval_indices`, decoded ahead of time.

    Args:
      source: Examples to evaluate.
      loading: How to read them.
      batch_size: Size of the global batch, over all processes.
      start_step: Number of batches to leave out.

    Yields:
      `image`, `label`, `mask`, and `skipped`, bool `[b]`, which is True where an image
      could not be read; its mask is 0.

    Raises:
      UnreadableImageError: An image cannot be read, unless `on_error` is `skip`.
    """
    make = functools.partial(_eval_batch, source, loading, _share(batch_size))
    steps = range(start_step, -(-len(source) // batch_size))
    yield from _read(make, steps, loading)


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """Draws items before they are asked for, so that transfers overlap the step.

    Args:
      items: Any items, such as batches on their way to the device.
      count: Number of items to hold.

    Yields:
      The items, in order.
    """
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.pop(0)
    yield from held


class _Share(NamedTuple):
    """One process's block of every global batch.

    The blocks of the processes follow each other. So the order within a batch, which
    mixup depends on, is the same for any number of processes.
    """

    batch_size: int
    size: int
    first: int

    def start(self, step: int) -> int:
        """Returns the number, in the whole run, of the first example of a step."""
        return step * self.batch_size + self.first


def _share(batch_size: int) -> _Share:
    local = batch_size // jax.process_count()
    return _Share(batch_size, local, jax.process_index() * local)


def _train_indices(size: int, share: _Share, seed: int, step: int) -> Batch:
    index = np.empty(share.size, np.int32)
    epoch = np.empty(share.size, np.int32)
    row = 0
    while row < share.size:  # A second turn is needed where an epoch ends.
        number, place = divmod(share.start(step) + row, size)
        rows = slice(row, min(row + size - place, share.size))
        row = rows.stop
        index[rows] = _order(seed, number, size)[place:][: rows.stop - rows.start]
        epoch[rows] = number
    return {"index": index, "epoch": epoch}


# Two networks may be fed at once, each at the border of two epochs. One order of
# ImageNet takes 10 MB.
@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def _eval_indices(size: int, share: _Share, step: int) -> Batch:
    index = share.start(step) + np.arange(share.size)
    mask = (index < size).astype(np.float32)
    return {"index": np.minimum(index, size - 1).astype(np.int32), "mask": mask}


def _train_batch(
    source: Source, loading: Loading, share: _Share, seed: int, step: int
) -> Batch:
    batch = {**_train_indices(len(source), share, seed, step), **_blank(share, loading)}
    for row, (epoch, index) in enumerate(
        zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)
    ):
        rng = np.random.default_rng((seed, epoch, index))
        example, skipped = _readable(source, loading, index, rng)
        batch["image"][row], batch["label"][row] = example
        batch["skipped"][row] = skipped
    return batch


def _readable(
    source: Source, loading: Loading, index: int, rng: np.random.Generator
) -> tuple[DecodedImage, bool]:
    """Returns an example or the next readable one, and whether it is the latter."""
    for offset in range(len(source)):
        place = (index + offset) % len(source)
        try:
            return whole_image(source, place, loading.shape, rng), offset > 0
        except UnreadableImageError as error:
            if loading.on_error == "raise":
                raise
            last = error
    raise last


def _eval_batch(source: Source, loading: Loading, share: _Share, step: int) -> Batch:
    batch = {**_eval_indices(len(source), share, step), **_blank(share, loading)}
    for row in np.flatnonzero(batch["mask"]):
        index = int(batch["index"][row])
        try:
            example = whole_image(source, index, loading.shape)
        except UnreadableImageError:
            if loading.on_error == "raise":
                raise
            batch["mask"][row], batch["skipped"][row] = 0.0, True
        else:
            batch["image"][row], batch["label"][row] = example
    return batch


def _blank(share: _Share, loading: Loading) -> Batch:
    return {
        "image": np.zeros((share.size, *loading.shape), np.uint8),
        "label": np.zeros(share.size, np.int32),
        "skipped": np.zeros(share.size, np.bool_),
    }


def _read(
    make: Callable[[int], Batch], steps: range, loading: Loading
) -> Iterator[Batch]:
    """Yields batches in the order of the steps, read ahead by threads or processes."""
    # Grain's elements are whole batches and not examples, because its own work for an
    # element would be a tenth of decoding an image.
    batches = grain.MapDataset.range(steps.start, steps.stop).map(make)
    batches = batches.to_iter_dataset(
        grain.ReadOptions(
            num_threads=loading.threads, prefetch_buffer_size=loading.threads + 1
        )
    )
    if loading.workers:
        if not flags.FLAGS.is_parsed():  # In a notebook. Grain reads flags of its own.
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=loading.workers)
        batches = batches.mp_prefetch(options)
    yield from batches
