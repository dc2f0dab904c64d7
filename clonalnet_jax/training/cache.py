"""A frozen baseline's answers in files: computed once, then read in its place.

A record (see `answer_files`) holds the answers of one batch (see `answers`): of a
training step where every augmented view is kept, of `batch_size` images in their order
where the images are. `manifest.json` says what the answers depend on. Files appear when
they are whole, so that a start goes on where the one before was stopped.
"""

import functools
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from clonalnet_jax.data.loader import Batch
from clonalnet_jax.data.sources import Arrays, Source, UnreadableImageError
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import interruption, partition
from clonalnet_jax.runtime.processes import wait_for_all
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import AnswerFn
from clonalnet_jax.training import answers
from clonalnet_jax.training.answer_files import AnswerFiles
from clonalnet_jax.training.answers import Answers
from clonalnet_jax.training.experiment import OTHERS, Experiment
from clonalnet_jax.training.teacher import Frozen, Teacher
from clonalnet_jax.workdir.files import flatten, read_json, write_atomically

# The largest difference of the loss, on average over images, that is accepted.
TOLERANCE = 1e-3
# Share of an image's probability that rounding on another device may move.
_MOVED = 0.02
_ANSWERS_PER_FILE = 2**16
# Images whose content the manifest knows of a source that is not in memory.
_LOOKED_AT = 64
_MANIFEST_REMEDY = "restore it, or delete the directory: it is computed again"
# Keys of config.data that say where images are and how they are read, not which they
# are.
_WITHOUT = ("path", "threads", "workers", "on_device", "on_error", "test_split")


@made_once
def _answer_from(*, num_classes: int, top_k: int) -> AnswerFn:
    def answer(variables: Any, images: Array, packed: Array | None) -> Answers:
        del variables, images
        assert packed is not None, "`Cache.rows` are beside every batch"
        return answers.decode(packed, num_classes=num_classes, top_k=top_k)

    return answer


class Cache:
    """The answers of one baseline to the images of one run.

    Attributes:
      directory: Directory of the files.
    """

    def __init__(self, experiment: Experiment, frozen: Frozen) -> None:
        """Touches nothing yet; see `fill`.

        Args:
          experiment: Its `config.baseline.cache`, `.cache_dir` and `.cache_top_k`
            decide.
          frozen: The baseline as it would run beside a clone.
        """
        config = experiment.config
        given = config.baseline.cache_dir
        self.directory = (
            Path(given).expanduser() if given else experiment.workdir / "baseline_cache"
        )
        self._experiment, self._frozen = experiment, frozen
        self._views = config.baseline.cache == "views"
        self._size = {
            "num_classes": experiment.dataset.num_classes,
            "top_k": config.baseline.cache_top_k,
        }
        images = len(experiment.dataset.train)
        self._count = (
            experiment.num_steps if self._views else -(-images // config.batch_size)
        )
        self._record = functools.lru_cache(maxsize=4 if self._views else None)(
            lambda record: self._files.read(record)
        )

    def teacher(self) -> Teacher:
        """The answers of this cache in place of the baseline's forward pass."""
        answer = _answer_from(**self._size)
        return Teacher(answer, {}, beside=self.rows, get_ready=self.fill)

    def unpack(self, rows: UInt8[Array, "b size"]) -> Answers:
        """What the loss takes of a batch's `answers`; see `answers.decode`."""
        return answers.decode(rows, **self._size)

    def rows(self, step: int, batch: Batch) -> Batch:
        """The `answers` of this process's part of a training batch.

        Args:
          step: Step of the batch.
          batch: The batch, with `index` `[b]`.

        Returns:
          `answers`, uint8 `[b, size]`.

        Raises:
          UserError: A file is missing or damaged.
        """
        if self._views:
            local = len(batch["index"])
            first = jax.process_index() * local
            return {"answers": self._record(step)[first : first + local]}
        record, row = np.divmod(batch["index"], self._experiment.config.batch_size)
        return {
            "answers": np.stack(
                [self._record(r)[i] for r, i in zip(record, row, strict=True)]
            )
        }

    def fill(self) -> None:
        """Checks what is there and computes what is missing.

        Raises:
          UserError: The directory holds answers of something else, a file is damaged,
            or `config.baseline.cache_top_k` is too small.
          PreemptedError: The run was asked to stop; what is written is kept.
        """
        self._check_manifest()
        done = max((end for _, end in self._files.whole()), default=0)
        wait_for_all(f"{self.directory} read")
        if done:
            self._check_first_record()
        if done < self._count:
            self._compute(done)

    def _check_manifest(self) -> None:
        path, now = self.directory / "manifest.json", self._manifest
        saved = read_json(path, None, remedy=_MANIFEST_REMEDY)
        before = now if saved is None else flatten(saved)
        changed = [
            f"{key}: {before.get(key, 'absent')!r} -> {now.get(key, 'absent')!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise self._foreign("; ".join(changed))
        wait_for_all(f"{self.directory} checked")
        if saved is None and jax.process_index() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(now, indent=2, sort_keys=True))

    @functools.cached_property
    def _manifest(self) -> dict[str, Any]:
        """All that an answer depends on, as JSON gives it back."""
        config, dataset = self._experiment.config, self._experiment.dataset
        data = json.loads(config.data.to_json_best_effort())
        manifest = {
            "format": 3,  # since every record has a digest
            "kind": config.baseline.cache,
            "baseline": _digest(self._frozen.variables),
            "compute_dtype": config.baseline.compute_dtype or config.compute_dtype,
            "temperature": config.loss.temperature,
            "batch_size": config.batch_size,
            "images": len(dataset.train),
            "train": _digest_of_images(dataset.train),
            "classes": _digest({"names": np.asarray(dataset.class_names)}),
            **self._size,
            **{f"data.{key}": data[key] for key in data if key not in _WITHOUT},
        }
        if self._views:
            manifest["seed"] = config.seed
        return flatten(json.loads(json.dumps(manifest)))

    @functools.cached_property
    def _files(self) -> AnswerFiles:
        shape = (self._experiment.config.batch_size, answers.row_bytes(**self._size))
        origin = json.dumps(self._manifest, sort_keys=True)
        return AnswerFiles(self.directory, shape, origin)

    def _foreign(self, got: str) -> UserError:
        return UserError(
            f"baseline cache {self.directory}",
            got=f"answers of something else: {got}",
            expected="answers of this baseline to these images",
            remedy="delete the directory, or name another one with "
            "--config.baseline.cache_dir",
        )

    def _check_first_record(self) -> None:
        """Images and weights may have changed in ways that no manifest knows."""
        rows, _ = next(self._answer(0))
        now, saved = (
            jnp.exp(self.unpack(jnp.asarray(x)).logits) for x in (rows, self._record(0))
        )
        moved = float(jnp.mean(jnp.sum(jnp.abs(now - saved), axis=-1)))
        if not moved < _MOVED:
            raise self._foreign(
                f"{moved:.3f} of an image's probability in the first batch is elsewhere"
            )

    def _compute(self, done: int) -> None:
        config, say = self._experiment.config, self._experiment.journal.say
        per_file = max(1, _ANSWERS_PER_FILE // config.batch_size)
        start, bounds = time.perf_counter(), []
        rows: list[np.ndarray] = []
        first = done
        say(
            f"baseline cache: computing {self._count - done:,} of {self._count:,} "
            f"batches of answers into {self.directory}"
        )
        try:
            for row, bound in self._answer(done):
                rows.append(row)
                bounds.append(bound)
                self._check_bound(float(bounds[0].mean()))
                stop = interruption.poll()
                end = first + len(rows)
                if stop or len(rows) == per_file or end == self._count:
                    if jax.process_index() == 0:
                        self._files.write(first, rows)
                    first, rows = end, []
                if stop:
                    raise interruption.PreemptedError
        finally:
            interruption.rest()
        wait_for_all(f"{self.directory} written")
        self._tell(time.perf_counter() - start, np.concatenate(bounds))

    def _answer(self, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and bounds of the loss's error, batch by batch, on every process."""
        experiment = self._experiment
        _, augment_key = experiment.keys(OTHERS)
        step = partition.jit_eval_step(experiment.mesh, self._answer_step())
        variables = (self._frozen.variables, augment_key)
        for batch in self._batches(start):
            yield jax.device_get(step(variables, batch))

    def _answer_step(self) -> Any:
        prepare = self._experiment.make_preprocess()
        temperature = self._experiment.config.loss.temperature

        def answer(variables: Any, batch: Any) -> tuple[Array, Array]:
            of_baseline, key = variables
            images, _ = prepare(batch, key if self._views else None)
            logits = self._frozen.forward(of_baseline, images)
            top_k = self._size["top_k"]
            rows = answers.encode(logits, temperature=temperature, top_k=top_k)
            return rows, answers.error_bound(logits, self.unpack(rows))

        return answer

    def _batches(self, start: int) -> Iterator[Any]:
        experiment = self._experiment
        if self._views:
            return experiment.train_batches(stream=OTHERS, start_step=start)
        feed = experiment.feed(experiment.dataset.train)
        batch_size = experiment.config.batch_size
        return feed.once(batch_size=batch_size, start_step=start)

    def _check_bound(self, bound: float) -> None:
        if bound > TOLERANCE:
            raise UserError(
                "config.baseline.cache_top_k",
                got=f"{self._size['top_k']}, with which the loss of the first batch "
                f"may be off by {bound:.1e} an image",
                expected=f"at most {TOLERANCE:.0e}",
                remedy="keep more probabilities with --config.baseline.cache_top_k",
            )

    def _tell(self, seconds: float, bounds: np.ndarray) -> None:
        """What it cost and when it pays off."""
        experiment = self._experiment
        step = partition.jit_eval_step(experiment.mesh, self._answer_step())
        variables = (self._frozen.variables, experiment.keys(OTHERS)[1])
        batch = next(iter(self._batches(0)))
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            jax.block_until_ready(step(variables, batch))
            times.append(time.perf_counter() - begin)
        saved = min(times)
        size = answers.row_bytes(**self._size)
        epochs = seconds / saved / experiment.steps_per_epoch
        experiment.journal.say(
            f"baseline cache: {size} bytes an image, {seconds:.1f} s; without the "
            f"baseline a step is {1e3 * saved:.1f} ms shorter, which pays for that "
            f"after {epochs:.1f} epochs (a run has "
            f"{experiment.num_steps / experiment.steps_per_epoch:.1f}); the loss is "
            f"off by less than {bounds.mean():.1e} on average, {bounds.max():.1e} at "
            "most"
        )


def _digest_of_images(source: Source) -> str:
    """Which images these are, in which order, by what they show.

    Of a source that is too large to lie in memory the digest knows all labels and
    names, but the content of only some images, evenly spaced: to read an ImageNet once
    more would cost as much as an epoch.
    """
    digest = hashlib.sha256(np.ascontiguousarray(source.labels()).tobytes())
    if isinstance(source, Arrays):
        digest.update(source.images.tobytes())
        return digest.hexdigest()[:16]
    # Without their folder, which may be moved; the labels know the folders of classes.
    names = (source.name(index).rpartition("/")[2] for index in range(len(source)))
    digest.update("\0".join(names).encode(errors="replace"))
    for index in np.linspace(0, len(source) - 1, _LOOKED_AT, dtype=int).tolist():
        try:
            digest.update(source[index].image.tobytes())
        except UnreadableImageError:
            digest.update(b"unreadable")
    return digest.hexdigest()[:16]


def _digest(tree: Any) -> str:
    """Digest of a tree's names, shapes and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(
            f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode()
        )
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
