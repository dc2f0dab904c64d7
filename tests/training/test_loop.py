"""What a training step's errors say; what a stop leaves; what is said to JAX."""

import copy
import os
import re
from collections import Counter
from itertools import accumulate

import jax
import jax.numpy as jnp
import pytest
from clonalnet_jax.configs import default
from hypothesis import given
from hypothesis import strategies as st

from clonalnet_jax import modes
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import interruption, processes
from clonalnet_jax.state import TrainState
from clonalnet_jax.training import story
from clonalnet_jax.training.loop import calls
from clonalnet_jax.training.step_errors import explain_step_error
from clonalnet_jax.workdir.checkpoints import read_meta


def test_too_little_memory_names_sizes_and_what_helps():
    config, params = default.get_config(), {"w": jnp.zeros((3, 4))}
    state = TrainState(jnp.zeros(()), params, {}, {})
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.jit(lambda: jnp.ones(1 << 44) + 1)().block_until_ready()
    error = explain_step_error(caught.value, config, state)
    assert isinstance(error, UserError)
    for part in ("batch_size 128", "12 parameters", "accumulate_steps", "bfloat16"):
        assert part in str(error)


def test_an_error_that_is_not_understood_is_left_as_it_is():
    error = jax.errors.JaxRuntimeError("INTERNAL: something else")
    state = TrainState(jnp.zeros(()), {}, {}, {})
    assert explain_step_error(error, default.get_config(), state) is error


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_debugging_names_the_operation_that_made_a_nan(digits_config, tmp_path):
    digits_config.debug_nans = True
    digits_config.optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match=r"(?s)invalid value \(nan\).*models.\w+\.py"):
        story.train(digits_config, tmp_path)


@pytest.mark.usefixtures("one_device", "two_blocks")
def test_runs_of_one_network_share_their_programs(digits_config, tmp_path, caplog):
    digits_config.methods = ("cross_entropy",)
    jax.clear_caches()  # of what other tests have compiled
    with jax.log_compiles():
        story.train(digits_config, tmp_path)
    lowered = Counter(re.findall(r"Compiling jit\((\w+)\)", caplog.text))
    once = ("init", "train_step", "eval_step", "predict_step")
    assert [lowered[name] for name in once] == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_a_stop_during_evaluation_is_made_up_for(digits_config, tmp_path, monkeypatch):
    config = copy.deepcopy(digits_config)
    config.methods, config.log_every_steps = (), 1
    polls = iter([False] * config.steps + [True])
    monkeypatch.setattr(interruption, "poll", lambda: next(polls, False))
    with pytest.raises(interruption.PreemptedError):
        story.train(config, tmp_path)
    meta = read_meta(tmp_path / "baseline")
    assert (meta.step, meta.evaluated) == (config.steps, False)
    metrics = tmp_path / "metrics.jsonl"
    assert '"split": "test"' not in metrics.read_text()
    story.train(config, tmp_path)
    assert metrics.read_text().count('"split": "test"') == 1
    assert read_meta(tmp_path / "baseline").evaluated


def test_compiled_programs_are_kept_in_the_workdir(tmp_path):
    name = "jax_compilation_cache_dir"
    given = jax.config.values[name]
    modes.configure_jax(default.get_config(), tmp_path)
    assert jax.config.values[name] == given
    jax.config.update(name, None)
    try:
        modes.configure_jax(default.get_config(), tmp_path)
        assert jax.config.values[name] == str(tmp_path / "compiled")
    finally:
        jax.config.update(name, given)


def test_determinism_is_asked_of_xla(monkeypatch, tmp_path):
    config = default.get_config()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    modes.configure_jax(config, tmp_path)
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=x"
    config.deterministic = True
    modes.configure_jax(config, tmp_path)
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_dump_to=x",
        "--xla_gpu_deterministic_ops=true",
    ]


@pytest.mark.parametrize(
    ("environment", "many"),
    [
        ({}, False),
        ({"JAX_COORDINATOR_ADDRESS": "host:1"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"}, True),
        # A shell or a batch script inside a job is not one of its tasks.
        ({"SLURM_NTASKS": "8"}, False),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
    ],
)
def test_a_process_knows_whether_it_is_one_of_many(environment, many):
    assert processes.is_one_of_many(environment) == many


@given(
    start=st.integers(0, 300),
    steps=st.integers(0, 700),
    size=st.integers(1, 40),
    log_every=st.integers(1, 120),
    interval=st.integers(1, 500),
)
def test_calls_end_where_something_is_due_and_few_programs_are_compiled(
    start, steps, size, log_every, interval
):
    last = start + steps
    lengths = list(
        calls(start, last, size=size, log_every=log_every, interval=interval)
    )
    ends = list(accumulate(lengths, initial=start))
    assert ends[-1] == last
    due = {
        k for k in range(start + 1, last + 1) if not (k % log_every and k % interval)
    }
    assert due <= set(ends)
    assert max(lengths, default=1) <= size
    assert len(set(lengths)) <= 3


def test_calls_are_full_where_they_can_be():
    found = list(calls(0, 400, size=20, log_every=50, interval=391))
    assert found[:3] == [20, 20, 10]
    assert found[-12:] == [20, 20, 1, *[1] * 9]
