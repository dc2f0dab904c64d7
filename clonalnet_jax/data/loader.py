"""Batches through Grain: a pure function of (seed, step), whatever the topology.

There is no iterator state to save. Example number `k` of a run is fixed by the seed
alone and step `s` takes numbers `s * batch_size` onwards, so the step that stands in a
checkpoint says where the data stand, on any number of hosts.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import grain
import jax
import numpy as np

from clonalnet_jax.data.sources import Source

Batch = dict[str, np.ndarray]
T = TypeVar("T")


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    threads: int,
) -> Iterator[Batch]:
    """This process's share of the batches of steps `start_step` to `num_steps`.

    Epochs follow each other without a gap: every example comes once per epoch, in an
    order of its own, and a batch may hold the end of one epoch and the start of the
    next.

    Args:
      source: training examples.
      batch_size: global, over all processes.
      seed: of the order.
      start_step: steps already done.
      num_steps: steps of the whole run.
      threads: that read ahead.

    Yields:
      `image` uint8 `[b, h, w, c]`, `label`, `index` (of the example in its source) and
      `epoch`, int32 `[b]`, where b is `batch_size / processes`.
    """
    size = len(source)

    def example(position: int, index: int) -> Batch:
        epoch = np.asarray(position // size, np.int32)
        return {**source[index], "index": np.asarray(index, np.int32), "epoch": epoch}

    order = grain.MapDataset.range(size).seed(seed).shuffle().repeat()
    batches = _share(order.map_with_index(example), batch_size)
    yield from batches[start_step:num_steps].to_iter_dataset(_read_options(threads))


def eval_batches(source: Source, *, batch_size: int, threads: int) -> Iterator[Batch]:
    """This process's share of batches that hold every example exactly once.

    Args:
      source: examples.
      batch_size: global, over all processes.
      threads: that read ahead.

    Yields:
      `image`, `label` and `mask`, float32 `[b]`: 0 marks the padding of the last batch.
    """
    size = len(source)

    def example(position: int) -> Batch:
        real = position < size
        chosen = source[position if real else 0]
        return {**chosen, "mask": np.asarray(real, np.float32)}

    padded = -(-size // batch_size) * batch_size
    positions = grain.MapDataset.range(padded).map(example)
    yield from _share(positions, batch_size).to_iter_dataset(_read_options(threads))


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """Draws items before they are asked for, so that transfers overlap the step.

    Args:
      items: such as batches on their way to the device.
      count: how many to hold.

    Yields:
      The items, in order.
    """
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.pop(0)
    yield from held


def _share(examples: grain.MapDataset, batch_size: int) -> grain.MapDataset:
    """Splits every global batch over the processes."""
    processes = jax.process_count()
    mine = examples[jax.process_index() :: processes]
    return mine.batch(batch_size // processes)


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
