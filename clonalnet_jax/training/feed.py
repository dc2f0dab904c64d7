"""Brings batches onto the devices: gathered there, or streamed from the host."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clonalnet_jax.data import loader
from clonalnet_jax.data.sources import Arrays, Source, check_skipped
from clonalnet_jax.runtime import partition

DeviceBatch = dict[str, jax.Array]
Beside = Callable[[int, loader.Batch], loader.Batch]
"""`(step, batch)` to more of a batch: this process's rows."""


@dataclasses.dataclass(frozen=True)
class Feed:
    """The batches of one source.

    Attributes:
      mesh: The devices that they go to.
      source: The examples.
      loading: Says how to read a source that is not in memory.
      warn: Called with a message where images were skipped.
    """

    mesh: Mesh
    source: Source
    loading: loader.Loading
    warn: Callable[[str], None]

    def train(
        self,
        *,
        batch_size: int,
        seed: int,
        start_step: int,
        num_steps: int,
        beside: Beside | None = None,
    ) -> Iterator[DeviceBatch]:
        """Batches of steps `start_step` to `num_steps`; see `loader.train_batches`.

        `beside` adds entries to a batch; see `Beside`.
        """
        where = {
            "batch_size": batch_size,
            "seed": seed,
            "start_step": start_step,
            "num_steps": num_steps,
        }
        if isinstance(self.source, Arrays):
            batches = loader.train_indices(len(self.source), **where)
        else:
            batches = loader.train_batches(self.source, self.loading, **where)
        if beside is not None:
            numbered = enumerate(batches, start_step)
            batches = ({**batch, **beside(step, batch)} for step, batch in numbered)
        if isinstance(self.source, Arrays):
            return self._gathered(batches)
        return self._streamed(batches)

    def once(self, *, batch_size: int, start_step: int = 0) -> Iterator[DeviceBatch]:
        """Padded batches with a `mask`, in order; see `loader.eval_batches`."""
        which = {"batch_size": batch_size, "start_step": start_step}
        if isinstance(self.source, Arrays):
            size = len(self.source)
            return self._gathered(loader.eval_indices(size, **which))
        batches = loader.eval_batches(self.source, self.loading, **which)
        return self._streamed(batches)

    def _gathered(self, indices: Iterable[loader.Batch]) -> Iterator[DeviceBatch]:
        assert isinstance(self.source, Arrays)
        images = _on_device(self.mesh, self.source)
        gather = partition.jit_gather(self.mesh)
        batches: Iterable[Any] = indices
        # The arrays of a single process travel with the call, which takes a tenth of
        # the host's time that placing them first would.
        if jax.process_count() > 1:
            batches = (partition.shard_batch(self.mesh, batch) for batch in indices)
        for batch in batches:
            yield gather(images, batch)

    def _streamed(self, batches: Iterable[loader.Batch]) -> Iterator[DeviceBatch]:
        whole = self._count_skipped(batches)
        shard = (partition.shard_batch(self.mesh, batch) for batch in whole)
        return loader.ahead(shard)

    def _count_skipped(self, batches: Iterable[loader.Batch]) -> Iterator[loader.Batch]:
        """Takes the entry `skipped` out, and warns after every pass over the source."""
        share = len(self.source) // jax.process_count()
        seen = skipped = 0
        for batch in batches:
            skipped += int(np.sum(batch.pop("skipped")))
            check_skipped(skipped, share)
            yield batch
            seen += len(batch["label"])
            if seen >= share:
                self._warn_of(skipped, seen)
                seen = skipped = 0
        self._warn_of(skipped, seen)

    def _warn_of(self, skipped: int, seen: int) -> None:
        if skipped:
            self.warn(f"SKIPPED {skipped} of {seen:,} images that cannot be decoded")


# Training, held-out and test images, each copied once.
@functools.lru_cache(maxsize=3)
def _on_device(mesh: Mesh, source: Arrays) -> DeviceBatch:
    images = {"image": source.images, "label": source.classes}
    return partition.replicate(mesh, images)
