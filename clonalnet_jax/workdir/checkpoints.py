"""Orbax behind one door: save, restore, resume.

A run directory holds one folder per saved step, each with three items: `model` (the
variables), `training` (what is needed only to resume: step, optimiser state, and the
variables that `model` holds the moving average of) and `meta` (JSON: what the network
is and what it was trained on). Where the data stand follows from the step (see
`data.loader`). The digests of all files (see `digests`) tell a damaged checkpoint
before anything is read from it, by Orbax or by us.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import chex
import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import Model, create_model
from clonalnet_jax.runtime.partition import shard_state
from clonalnet_jax.runtime.processes import wait_for_all
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import TrainState
from clonalnet_jax.workdir import digests
from clonalnet_jax.workdir.directory import started_experiments
from clonalnet_jax.workdir.foreign_code import refuse_code_inside
from clonalnet_jax.workdir.meta import Meta, check_network, check_run, parse_meta
from clonalnet_jax.workdir.saved_arrays import explain_mismatch

__all__ = ["Checkpoints", "Meta", "read_meta", "restore_variables"]

T = TypeVar("T")

_ITEMS = ("model", "training", "meta")


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Not Orbax's business: only `interruption` may count the polls of JAX's."""
        del step
        return False


class Checkpoints:
    """The checkpoints of one run: the last two, and the best by its `top1`.

    Use it as a context manager: leaving it waits for the asynchronous saves and
    raises what went wrong in them.
    """

    def __init__(self, directory: Path) -> None:
        """Opens or creates the directory; clears what a killed save left behind.

        A damaged checkpoint is moved aside, not deleted; `restore` tells of it.

        Args:
          directory: The directory of the run.

        Raises:
          UserError: The directory cannot be read or written.
        """
        self.directory = directory
        # Orbax reads the metrics of every step as it opens the directory.
        self._set_aside: list[str] = self._guard(lambda: _set_damaged_aside(directory))
        wait_for_all(f"{directory} looked at")
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True,
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(2),
                    policies.BestN(
                        get_metric_fn=lambda metrics: metrics["top1"],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            best_fn=lambda metrics: metrics["top1"],
        )
        self._manager: ocp.CheckpointManager = self._guard(
            lambda: _Manager(directory.absolute(), options=options, item_names=_ITEMS)
        )

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Waits for saves; an error already on its way is not hidden by theirs."""
        try:
            self.wait()
            self._guard(self._manager.close)
        except UserError:
            if error_type is None:
                raise

    def save(
        self, state: TrainState, meta: Meta, metrics: dict[str, float] | None
    ) -> None:
        """Starts saving; returns once the state is copied and may be donated.

        Args:
          state: A state at a step that is not yet saved, or saved without metrics.
          meta: Its meta, with the same step.
          metrics: Its metrics; `top1` decides which checkpoint is the best. None
            where the run stops before they are known.

        Raises:
          UserError: This save or the one before it failed (disk full, read-only).
        """
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(state.variables),
            training=ocp.args.StandardSave(_training_item(state)),
            meta=ocp.args.JsonSave(
                dataclasses.asdict(meta) | {"evaluated": metrics is not None}
            ),
        )
        self.wait()
        if meta.step in self._manager.all_steps():
            # Orbax never replaces; a kill right here costs one interval.
            self._guard(lambda: self._manager.delete(meta.step))
        if jax.process_index() == 0:
            self._guard(lambda: digests.expect(self.directory, meta.step))
        self._guard(
            lambda: self._manager.save(
                meta.step, args=items, metrics=metrics, force=True
            )
        )

    def wait(self) -> None:
        """Waits for the save under way; raises `UserError` if it failed."""
        self._guard(self._manager.wait_until_finished)
        if jax.process_index() == 0:
            steps = self._manager.all_steps()
            self._guard(lambda: digests.seal(self.directory, steps))

    def restore(
        self, like: TrainState, meta: Meta, *, warn: Callable[[str], None]
    ) -> tuple[TrainState, Meta] | None:
        """Restores the last state that is whole.

        Args:
          like: Shapes of such a state and where they go; see `partition.shard_state`.
          meta: The meta of a run of that network.
          warn: Function that is told of each checkpoint that was damaged.

        Returns:
          The state and its meta; None without any.

        Raises:
          UserError: A checkpoint is whole but of another network or another run.
        """
        for text in self._set_aside:
            warn(text)
        self.wait()
        step = self._manager.latest_step()
        if step is None:
            return None
        folder = self.directory / str(step)
        saved = parse_meta(folder, _restore(folder, {})["meta"])
        known = started_experiments(self.directory.parent)
        check_network(folder, saved, meta, experiments=known)
        target = {"model": like.variables, "training": _training_item(like)}
        items = _restore(folder, target)
        training = items["training"]
        trained = training.pop("trained", None)
        average = items["model"] if trained else {}
        state = TrainState(**training, **(trained or items["model"]), average=average)
        return state, saved

    def _guard(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except UserError:
            raise
        except Exception as error:  # Orbax and TensorStore raise a dozen types
            raise UserError(
                f"cannot write checkpoints in {self.directory}",
                got=_first_line(error),
                expected="a directory that can be written and has space left",
                remedy="make room or choose another --workdir, then start the same "
                "command again: what was saved before still loads",
            ) from error


def _training_item(state: TrainState) -> dict[str, Any]:
    item = {"step": state.step, "opt_state": state.opt_state}
    return item | ({"trained": state.trained} if state.average else {})


def _set_damaged_aside(directory: Path) -> list[str]:
    """Moves damaged checkpoints out of Orbax's way; returns a warning about each."""
    warnings = []
    if jax.process_index() == 0:
        for step in _steps_in(directory):
            try:
                digests.verify(directory / str(step))
            except digests.DamagedCheckpoint as damage:
                aside = _free_name(directory / f"{step}.damaged")
                (directory / str(step)).rename(aside)
                warnings.append(f"{damage}\nMoved to {aside}; going on without it.")
    return warnings


def _free_name(path: Path) -> Path:
    """The path itself, or with the first number that nothing there has."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _steps_in(directory: Path) -> list[int]:
    """The steps that a run directory holds, in order; none where there is none."""
    if not directory.is_dir():
        return []
    found = [path.name for path in directory.iterdir() if path.is_dir()]
    return sorted(int(name) for name in found if name.isdecimal())


def read_meta(directory: Path, *, which: str = "last", run: str | None = None) -> Meta:
    """Reads what the last or best checkpoint of a run directory says of itself.

    Args:
      directory: The directory of a run, such as `runs/digits/clone`.
      which: `last` or `best`.
      run: Name of the run that it must be of; None for any.

    Returns:
      The meta.

    Raises:
      UserError: There is no checkpoint, it cannot be read, is of another run, or its
        network's code lies in the workdir.
    """
    folder = directory / str(_pick(directory, which))
    digests.verify(folder)
    meta = parse_meta(folder, _restore(folder, {})["meta"])
    if run is not None:
        known = started_experiments(directory.parent)
        check_run(folder, meta, run, experiments=known)
    refuse_code_inside(directory.parent, meta.model, said_by=str(folder))
    return meta


def restore_variables(
    directory: Path, mesh: Mesh, *, which: str = "last", run: str | None = None
) -> tuple[dict[str, chex.ArrayTree], Meta]:
    """Restores a trained network, without its optimiser.

    Args:
      directory: The directory of a run, such as `runs/digits/clone`.
      mesh: The mesh that the arrays go to.
      which: `last` or `best`.
      run: Name of the run that it must be of; None for any.

    Returns:
      `params` and `batch_stats`, replicated over the mesh, and the meta, from which
      `create_model` builds the module.

    Raises:
      UserError: There is no checkpoint, or it cannot be read or is of another run.
    """
    meta = read_meta(directory, which=which, run=run)
    model = create_model(meta.model, len(meta.class_names), **meta.options)
    placed = shard_state(mesh, _shapes(model, tuple(meta.image_shape)))
    items = _restore(directory / str(meta.step), {"model": placed})
    return items["model"], meta


@made_once
def _shapes(model: Model, image_shape: tuple[int, ...]) -> dict[str, chex.ArrayTree]:
    images = jax.ShapeDtypeStruct((1, *image_shape), "float32")
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    return {
        "params": variables["params"],
        "batch_stats": variables.get("batch_stats", {}),
    }


def _pick(directory: Path, which: str) -> int:
    """The last step of a run, or the best by its `top1`; the later one of equals."""
    if not directory.is_dir():
        near = [
            p.parent for p in sorted(directory.parent.glob("*/*/_CHECKPOINT_METADATA"))
        ]
        raise UserError(
            f"checkpoint directory {directory}",
            got="no such directory",
            expected="the directory of a run, such as runs/digits/baseline",
            remedy=f"there is {near[0].parent}" if near else "check the path",
        )
    steps = _steps_in(directory)
    if which == "best":
        scores = {step: _top1(directory / str(step)) for step in steps}
        known = {step: top1 for step, top1 in scores.items() if top1 is not None}
        steps = sorted(known, key=lambda step: (known[step], step))
    if steps:
        return steps[-1]
    inner = sorted(p.name for p in directory.iterdir() if p.is_dir())
    near_by = directory.parent if directory.name.isdigit() else directory / "baseline"
    raise UserError(
        f"checkpoint directory {directory}",
        got=f"no checkpoint in it, but: {', '.join(inner[:8]) or 'nothing'}",
        expected="folders named by their step, as a run directory holds",
        remedy=f"try {near_by}" if near_by.is_dir() else "point to a run's directory",
    )


def _top1(folder: Path) -> float | None:
    """The `top1` that a step was saved with; None where it was not evaluated."""
    digests.verify(folder)
    path = folder / "metrics" / "metrics"
    return json.loads(path.read_text())["top1"] if path.exists() else None


def _restore(folder: Path, target: dict[str, Any]) -> Any:
    """Restores `meta` and the items of `target`, with its shapes and shardings.

    The caller has verified the digests, once for all that it restores of a step.
    """
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in target.items()}
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(*_ITEMS)) as checkpointer:
            return checkpointer.restore(
                folder.absolute(),
                args=ocp.args.Composite(meta=ocp.args.JsonRestore(), **arguments),
            )
    except Exception as error:  # Orbax and TensorStore raise a dozen types
        if "model" in target:
            mismatch = explain_mismatch(folder, target["model"])
            if mismatch is not None:
                raise mismatch from error
        raise UserError(
            f"checkpoint {folder}",
            got=f"cannot be read: {_first_line(error)}",
            expected="a whole checkpoint of the network that the config describes",
            remedy="delete that folder to go back to the checkpoint before it",
        ) from error


def _first_line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    if len(text) > 240:  # TensorStore names the file first and the reason last
        text = f"{text[:80]} ... {text[-150:]}"
    return f"{type(error).__name__}: {text}"
