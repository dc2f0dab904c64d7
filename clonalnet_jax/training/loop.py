"""The training loop of one run: step, log, evaluate, save, and resume."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict, FrozenConfigDict

from clonalnet_jax.models.protocol import Model
from clonalnet_jax.runtime import interruption, partition
from clonalnet_jax.runtime.profiling import Profile
from clonalnet_jax.runtime.retracing import made_once
from clonalnet_jax.state import AnswerFn, TrainState, Variables
from clonalnet_jax.training import steps
from clonalnet_jax.training.experiment import BASELINE, OTHERS, Experiment
from clonalnet_jax.training.feed import DeviceBatch
from clonalnet_jax.training.methods import LossFn
from clonalnet_jax.training.optimizers import make_optimizer, make_schedule
from clonalnet_jax.training.recorder import Recorder, all_finite
from clonalnet_jax.training.step_errors import explain_step_error
from clonalnet_jax.training.teacher import NOBODY, Teacher
from clonalnet_jax.workdir.checkpoints import Checkpoints

Batches = Sequence[DeviceBatch]

_make_schedule = made_once(make_schedule)
_make_optimizer = made_once(make_optimizer)
_make_train_step = made_once(steps.make_train_step)
_make_many_steps = made_once(steps.make_many_steps)
_pack_metrics = made_once(steps.pack_metrics)


def train_run(
    experiment: Experiment,
    name: str,
    *,
    network: ConfigDict,
    loss_fn: LossFn,
    teacher: Teacher = NOBODY,
    start: Callable[[], Variables | None] = lambda: None,
) -> bool:
    """Trains one network to its last step, from its last checkpoint if it has one.

    All runs but the baseline share data order, augmentation and initialisation, so
    that they differ by their loss alone.

    Args:
      experiment: The config and the data.
      name: Name of the run and of its directory.
      network: `config.baseline` or `config.clone`.
      loss_fn: The method's loss; see `state.LossFn`.
      teacher: Answers for the baseline.
      start: Returns variables to begin with, or None for random ones. Variables that
        it leaves out are random. It is not called where a checkpoint is resumed.

    Returns:
      Whether anything was left to train.

    Raises:
      UserError: The loss is not finite, the device has too little memory, or a
        checkpoint cannot be written or read.
      PreemptedError: The run was asked to stop; its state is saved.
    """
    interruption.stop_if_asked()
    mesh = experiment.mesh
    model = experiment.make_network(network)
    schedule = _schedule_of(experiment)
    optimizer = make_run_optimizer(experiment)
    stream = BASELINE if name == "baseline" else OTHERS
    init_key, augment_key = experiment.keys(stream)
    init = make_init(experiment, model, optimizer)
    like = experiment.place_state(model, jax.eval_shape(init, init_key))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
    step = make_step(experiment, model, optimizer, loss_fn, teacher.answer)
    take_steps = _make_take_steps(experiment, step, shardings)
    with Checkpoints(experiment.workdir / name) as checkpoints:
        warn = experiment.journal.warn
        meta = experiment.new_meta(name, network)
        saved = checkpoints.restore(like, meta, warn=warn)
        meta = saved[1] if saved else meta
        if meta.step >= experiment.num_steps and meta.evaluated:
            experiment.journal.say(f"{name}: trained already, {meta.step} steps")
            return False
        teacher.get_ready()
        interruption.stop_if_asked()  # The first step takes long to compile.
        make_state = partition.jit_init(mesh, init, shardings=shardings)
        _loop(
            experiment,
            saved[0] if saved else _first_state(make_state(init_key), start()),
            lambda state, batches: take_steps(
                state, teacher.variables, batches, augment_key
            ),
            batches=partial(
                experiment.train_batches, stream=stream, beside=teacher.beside
            ),
            recorder=Recorder(experiment, meta, schedule),
            evaluator=experiment.make_evaluator(model),
            checkpoints=checkpoints,
        )
    return True


def make_run_optimizer(experiment: Experiment) -> optax.GradientTransformation:
    """Makes the optimiser of every run, with the schedule of its learning rate."""
    config = FrozenConfigDict(experiment.config.optimizer)
    return _make_optimizer(config, _schedule_of(experiment))


def _schedule_of(experiment: Experiment) -> optax.Schedule:
    return _make_schedule(
        FrozenConfigDict(experiment.config.optimizer),
        num_steps=experiment.num_steps,
        steps_per_epoch=experiment.steps_per_epoch,
    )


def make_init(
    experiment: Experiment, model: Model, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainState]:
    """Makes `key -> state`: a run's network and optimiser at step 0."""
    average = experiment.config.ema_decay > 0
    return _make_init(model, optimizer, experiment.dataset.image_shape, average)


@made_once
def _make_init(
    model: Model,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    average: bool,
) -> Callable[[jax.Array], TrainState]:
    def init(key: jax.Array) -> TrainState:
        return steps.init_state(model, optimizer, key, image_shape, average=average)

    return init


def make_step(
    experiment: Experiment,
    model: Model,
    optimizer: optax.GradientTransformation,
    loss_fn: LossFn,
    answer: AnswerFn,
) -> Callable[..., Any]:
    """Makes the step that a run repeats; see `steps.make_train_step`."""
    return _make_train_step(
        model,
        optimizer,
        loss_fn,
        experiment.make_preprocess(),
        answer,
        steps_per_epoch=experiment.steps_per_epoch,
        accumulate_steps=experiment.config.accumulate_steps,
        ema_decay=experiment.config.ema_decay,
        wide_gradients=experiment.config.gradient_dtype == "float32",
        layout=partition.layout_of(
            experiment.mesh, fsdp=experiment.config.partition.fsdp
        ),
    )


def _loop(
    experiment: Experiment,
    state: TrainState,
    take_steps: Callable[[TrainState, Batches], tuple[TrainState, steps.PackedMetrics]],
    *,
    batches: Callable[..., Iterator[Any]],
    recorder: Recorder,
    evaluator: Callable[..., dict[str, float]],
    checkpoints: Checkpoints,
) -> None:
    start, last = recorder.meta.step, experiment.num_steps
    epochs = experiment.config.checkpoint_every_epochs
    interval = max(1, round(epochs * experiment.steps_per_epoch))
    split, dataset = experiment.curve_split, experiment.dataset
    journal = experiment.journal

    def keep(step: int, *, stop: bool = False) -> None:
        recorder.flush()
        recorder.check_state(state)
        scores = None
        # If a stop interrupts the evaluation, the next start does it.
        if step % interval == 0 or step == last:
            try:
                source = dataset.holdout if len(dataset.holdout) else dataset.test
                scores = None if stop else evaluator(state.variables, source)
            except interruption.PreemptedError:
                stop = True
        if scores is not None:
            journal.log(split, step, scores)
        checkpoints.save(state, recorder.meta, scores)
        if stop:
            checkpoints.wait()
            journal.say(f"{recorder.meta.method}: stopped and saved at step {step}")
            raise interruption.PreemptedError
        recorder.restart_clock()

    journal.start_run(recorder.meta.method, num_steps=last, step=start)
    profile = Profile(
        experiment.workdir / recorder.meta.method / "profile",
        steps=experiment.config.profile_steps,
        start=start,
    )
    try:
        if not recorder.meta.evaluated and (start % interval == 0 or start == last):
            keep(start)
        upcoming = batches(start_step=start)
        for group in _groups(experiment, upcoming, interval, step=start):
            state, metrics = take_steps(state, group)
            recorder.add(metrics, len(group))
            step = recorder.meta.step
            profile.after(step, metrics)
            if (stop := interruption.poll()) or step % interval == 0 or step == last:
                keep(step, stop=stop)
    except (jax.errors.JaxRuntimeError, FloatingPointError) as error:
        # Steps run asynchronously, so the error may be that of an earlier step.
        raise explain_step_error(error, experiment.config, state) from error
    finally:
        interruption.rest()
        profile.stop()
        journal.end_run()


def _groups(
    experiment: Experiment, batches: Iterator[Any], interval: int, *, step: int
) -> Iterator[Batches]:
    """Groups the batches of one call."""
    config = experiment.config
    fast = partition.layout_of(experiment.mesh).loops_are_fast
    lengths = calls(
        step,
        experiment.num_steps,
        size=config.steps_per_call if fast and not config.debug_nans else 1,
        log_every=config.log_every_steps,
        interval=interval,
    )
    for length in lengths:
        yield list(islice(batches, length))


def calls(
    step: int, last: int, *, size: int, log_every: int, interval: int
) -> Iterator[int]:
    """Divides a run's steps into calls, which end where something is logged or saved.

    A call of another number of steps is another program, which takes an accelerator up
    to minutes to compile: so there are three lengths at most, whatever the interval of
    the checkpoints.

    Args:
      step: Steps that are done.
      last: Steps of the run.
      size: Steps of a full call.
      log_every: Steps between two lines of the log.
      interval: Steps between two checkpoints.

    Yields:
      The number of steps of each call: `size`, what is left of `log_every`, or 1.
    """
    compiled = {1, size, log_every % size or size}
    while step < last:
        due = min(step - step % every + every for every in (log_every, interval))
        left = min(due, last) - step
        length = min(size, left)
        yield from [length] if length in compiled else [1] * length
        step += length


def _make_take_steps(
    experiment: Experiment, train_step: Callable[..., Any], shardings: Any
) -> Callable[..., tuple[TrainState, steps.PackedMetrics]]:
    """Makes `(state, baseline_variables, batches, key) -> (state, metrics by step)`."""
    jit = partial(
        partition.jit_train_step,
        experiment.mesh,
        state_shardings=shardings,
        # The search for a NaN needs the old state again after the step.
        donate=not experiment.config.debug_nans,
    )
    one = jit(_pack_metrics(train_step))
    many = jit(_pack_metrics(_make_many_steps(train_step)))

    def take_steps(
        state: TrainState, variables: Any, batches: Batches, key: jax.Array
    ) -> tuple[TrainState, steps.PackedMetrics]:
        if len(batches) > 1:
            return many(state, variables, batches, key)
        new_state, metrics = one(state, variables, batches[0], key)
        if experiment.config.debug_nans and not all_finite(metrics):
            # Without jit, JAX checks the result of each operation.
            with jax.disable_jit(), jax.debug_nans(True):
                train_step(state, variables, batches[0], key)
        return new_state, metrics

    return take_steps


def _first_state(state: TrainState, start: Variables | None) -> TrainState:
    """Replaces variables of a state at step 0 by those that are given."""
    if start is None:
        return state
    flat, given = flatten_dict(state.trained), flatten_dict(dict(start))
    shardings = {path: flat[path].sharding for path in given}
    variables = unflatten_dict(flat | partition.place(given, shardings))
    average = jax.tree.map(jnp.copy, variables) if state.average else {}
    # The state of a fresh optimiser does not depend on the parameters' values.
    return dataclasses.replace(state, **variables, average=average)
