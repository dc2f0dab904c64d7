"""Orbax behind one door: save, restore, resume.

A run directory holds one folder per saved step, each with three items: `model` (the
variables), `training` (what is needed only to resume: step, optimiser state, and the
variables that `model` holds the moving average of) and `meta` (JSON: what the network
is and what it was trained on). Where the data stand follows
from the step (see `data.loader`). Beside them lie the digests of all files, so that a
damaged checkpoint is known before anything is read from it.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import chex
import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.runtime.partition import shard_state
from clonalnet_jax.runtime.processes import agreed, wait_for_all
from clonalnet_jax.state import TrainState
from clonalnet_jax.workdir import digests

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself.

    Attributes:
      model: name for `create_model`.
      options: of the model.
      class_names: in the order of the logits.
      image_shape: `(height, width, channels)` it was trained on.
      method: of the run, such as `clone`.
      step: updates done.
      num_steps: updates of the whole run.
      train_seconds: wall time so far, compilation and evaluation included.
      timed_images: trained on while `timed_seconds` ran.
      timed_seconds: time in steps alone, compilation left out.
      evaluated: whether its metrics are known; not where a run was asked to stop.
    """

    model: str
    options: dict[str, Any]
    class_names: list[str]
    image_shape: list[int]
    method: str
    step: int = 0
    num_steps: int = 0
    train_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    evaluated: bool = True


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
        """Opens or creates the directory; clears what a killed save left behind."""
        self.directory = directory
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
            lambda: _Manager(
                directory.absolute(),
                options=options,
                item_names=("model", "training", "meta"),
            )
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
          state: at a step that is not yet saved, or saved without metrics.
          meta: with the same step.
          metrics: of this state; `top1` decides which checkpoint is the best. None
            where the run stops before they are known.

        Raises:
          UserError: this save or the one before it failed (disk full, read-only).
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
        self._guard(
            lambda: self._manager.save(
                meta.step, args=items, metrics=metrics, force=True
            )
        )

    def wait(self) -> None:
        """Waits for the save under way; raises `UserError` if it failed."""
        self._guard(self._manager.wait_until_finished)
        self._guard(self._seal)

    def restore(
        self, like: TrainState, meta: Meta, *, warn: Callable[[str], None]
    ) -> tuple[TrainState, Meta] | None:
        """The last state that is whole.

        A damaged checkpoint is moved aside, not deleted, and the one before it used.

        Args:
          like: shapes of such a state and where they go; see `partition.shard_state`.
          meta: of a run of that network.
          warn: told of each checkpoint that is damaged.

        Returns:
          The state and its meta; None without any.

        Raises:
          UserError: a checkpoint is whole but of another network.
        """
        target = {"model": like.variables, "training": _training_item(like)}
        while (step := self._manager.latest_step()) is not None:
            damage = self._find_damage(step)
            if not agreed(damage is None):
                aside = self._move_aside(step)
                warn(f"{damage}\nMoved to {aside}; going back one checkpoint.")
                continue
            saved = _restore(self._manager, self.directory, step, {})["meta"]
            _check_same_network(self.directory / str(step), Meta(**saved), meta)
            items = _restore(self._manager, self.directory, step, target)
            training = items["training"]
            trained = training.pop("trained", None)
            average = items["model"] if trained else {}
            state = TrainState(
                **training, **(trained or items["model"]), average=average
            )
            return state, Meta(**items["meta"])
        return None

    def _find_damage(self, step: int) -> digests.DamagedCheckpoint | None:
        """Looked for by the first process, whose answer holds for all."""
        if jax.process_index() == 0:
            try:
                digests.verify(self.directory / str(step))
            except digests.DamagedCheckpoint as error:
                return error
        return None

    def _move_aside(self, step: int) -> Path:
        damaged = self.directory / str(step)
        aside = self.directory / f"{step}.damaged"
        if jax.process_index() == 0:
            self._guard(lambda: damaged.rename(aside))
        wait_for_all(f"{damaged} moved")
        self._manager.reload()
        return aside

    def _seal(self) -> None:
        if jax.process_index() == 0:
            for step in self._manager.all_steps():
                digests.seal(self.directory / str(step))

    def _guard(self, action: Callable[[], T]) -> T:
        try:
            return action()
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


def _check_same_network(folder: Path, saved: Meta, asked: Meta) -> None:
    for field in ("model", "options", "class_names", "image_shape"):
        got, expected = getattr(saved, field), getattr(asked, field)
        if got != expected:
            raise UserError(
                f"checkpoint {folder} is of another network",
                got=f"{field} {got}",
                expected=f"{field} {expected}, as the config and data say",
                remedy="choose another --workdir, or the config it was trained with",
            )


def read_meta(directory: Path, *, which: str = "last") -> Meta:
    """What the last or best checkpoint of a run directory says of itself.

    Args:
      directory: such as `runs/digits/clone`.
      which: `last` or `best`.

    Returns:
      The meta.

    Raises:
      UserError: there is no checkpoint or it cannot be read.
    """
    with _reader(directory) as manager:
        step = _pick(manager, directory, which)
        digests.verify(directory / str(step))
        return Meta(**_restore(manager, directory, step, {})["meta"])


def restore_variables(
    directory: Path, mesh: Mesh, *, which: str = "last"
) -> tuple[dict[str, chex.ArrayTree], Meta]:
    """A trained network, without its optimiser.

    Args:
      directory: such as `runs/digits/clone`.
      mesh: where the arrays go.
      which: `last` or `best`.

    Returns:
      `params` and `batch_stats`, replicated over the mesh, and the meta, from which
      `create_model` builds the module.

    Raises:
      UserError: there is no checkpoint or it cannot be read.
    """
    meta = read_meta(directory, which=which)
    model = create_model(meta.model, len(meta.class_names), **meta.options)
    images = jax.ShapeDtypeStruct((1, *meta.image_shape), "float32")
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    target = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    placed = shard_state(mesh, target)
    with _reader(directory) as manager:
        items = _restore(manager, directory, meta.step, {"model": placed})
    return items["model"], meta


def _reader(directory: Path) -> ocp.CheckpointManager:
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
    return ocp.CheckpointManager(
        directory.absolute(),
        item_names=("model", "training", "meta"),
        options=ocp.CheckpointManagerOptions(
            create=False,
            save_root_metadata=False,
            best_fn=lambda metrics: metrics["top1"],
        ),
    )


def _pick(manager: ocp.CheckpointManager, directory: Path, which: str) -> int:
    step = manager.best_step() if which == "best" else manager.latest_step()
    if step is not None:
        return step
    inner = sorted(p.name for p in directory.iterdir() if p.is_dir())
    near = directory.parent if directory.name.isdigit() else directory / "baseline"
    raise UserError(
        f"checkpoint directory {directory}",
        got=f"no checkpoint in it, but: {', '.join(inner[:8]) or 'nothing'}",
        expected="folders named by their step, as a run directory holds",
        remedy=f"try {near}" if near.is_dir() else "point to a run's directory",
    )


def _restore(
    manager: ocp.CheckpointManager,
    directory: Path,
    step: int,
    target: dict[str, Any],
) -> Any:
    """Restores `meta` and the items of `target`, with its shapes and shardings.

    The caller has verified the digests, once for all that it restores of a step.
    """
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in target.items()}
    try:
        return manager.restore(
            step,
            args=ocp.args.Composite(meta=ocp.args.JsonRestore(), **arguments),
        )
    except Exception as error:  # Orbax and TensorStore raise a dozen types
        raise UserError(
            f"checkpoint {directory / str(step)}",
            got=f"cannot be read: {_first_line(error)}",
            expected="a whole checkpoint of the network that the config describes",
            remedy="delete that folder to go back to the checkpoint before it",
        ) from error


def _first_line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    if len(text) > 240:  # TensorStore names the file first and the reason last
        text = f"{text[:80]} ... {text[-150:]}"
    return f"{type(error).__name__}: {text}"
