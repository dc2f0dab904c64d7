"""The small files of a workdir."""

import copy
import json

import jax
import numpy as np
import pytest
from clonalnet_jax.configs import digits

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.story import is_finished
from clonalnet_jax.workdir.directory import (
    open_workdir,
    read_comparison,
    read_results,
    read_starts,
    trained_runs,
    write_results,
)
from clonalnet_jax.workdir.files import write_atomically
from clonalnet_jax.workdir.saved_logits import (
    SavedLogits,
    logits_path,
    read_logits,
    write_logits,
)


@pytest.fixture
def config():
    return digits.get_config()


@pytest.fixture
def started(tmp_path, config):
    """A workdir in which something has been saved."""
    open_workdir(tmp_path, config, force_config=False)
    step = tmp_path / "baseline" / "10"
    step.mkdir(parents=True)
    (step / "_CHECKPOINT_METADATA").write_text("{}")
    return tmp_path


def changed(config, key, value):
    other = copy.deepcopy(config)
    other.update_from_flattened_dict({key: value})
    return other


def test_config_and_environment_are_saved(started, config):
    assert json.loads((started / "config.json").read_text())["batch_size"] == 48
    (start,) = json.loads((started / "environment.json").read_text())
    assert {"git_revision", "packages", "device", "clonalnet_jax"} <= start.keys()
    open_workdir(started, config, force_config=False)
    assert len(json.loads((started / "environment.json").read_text())) == 2


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 3), ("loss.temperature", 4.0), ("steps", 5)]
)
def test_another_meaning_is_refused_with_the_difference(started, config, key, value):
    other = changed(config, key, value)
    with pytest.raises(UserError, match=rf"config\.{key}: .* -> {value}"):
        open_workdir(started, other, force_config=False)
    open_workdir(started, other, force_config=True)
    open_workdir(started, other, force_config=False)


@pytest.mark.parametrize(
    ("key", "value"), [("methods", ("clone",)), ("log_every_steps", 1)]
)
def test_what_changes_no_figure_may_change(started, config, key, value):
    open_workdir(started, changed(config, key, value), force_config=False)


def test_a_start_that_saved_nothing_binds_nobody(tmp_path, config):
    open_workdir(tmp_path, config, force_config=False)
    open_workdir(tmp_path, changed(config, "seed", 3), force_config=False)


def test_a_broken_results_file_is_named(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    for text in ("one", "two"):
        write_atomically(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


OTHER_KINDS = ["7", "null", '"text"', "{", "", "[[1]]", '{"clone": 3}', "\xff"]


@pytest.mark.parametrize("content", OTHER_KINDS)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("results.json", read_results),
        ("environment.json", read_starts),
        ("compare.json", read_comparison),
    ],
)
def test_json_of_another_kind_is_named_with_a_remedy(tmp_path, name, read, content):
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=rf"(?s){name}.*try:.*delete it"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["7", "[1]", "{", ""])
def test_a_config_of_another_kind_is_named(started, config, content):
    (started / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        open_workdir(started, config, force_config=False)


ROW = {
    **{"top1": 90.0, "top5": 99.0, "nll": 0.3, "ece": 1.0},
    **{"num_parameters": 9, "train_seconds": 1.0},
}


def test_a_figure_that_was_changed_is_not_believed(tmp_path):
    write_results(tmp_path, {"clone": ROW})
    assert read_results(tmp_path) == {"clone": ROW}
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace("90.0", "98.0"))
    with pytest.raises(UserError, match=r"results\.json\n.*other bytes.*"):
        read_results(tmp_path)
    path.unlink()
    assert read_results(tmp_path) == {}


def test_predictions_that_were_changed_are_not_believed(tmp_path):
    logits = np.random.default_rng(0).random((4, 3), np.float32)
    write_logits(tmp_path, "clone", SavedLogits(logits, np.zeros(4, np.int32)))
    np.testing.assert_array_equal(read_logits(tmp_path, "clone").logits, logits)
    path = logits_path(tmp_path, "clone")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="other bytes than were written"):
        read_logits(tmp_path, "clone")


@pytest.mark.parametrize("damage", ["flipped", "emptied", "removed"])
def test_a_run_whose_predictions_are_damaged_is_measured_again(tmp_path, damage):
    write_results(tmp_path, {"clone": ROW})
    logits = np.zeros((4, 3), np.float32)
    write_logits(tmp_path, "clone", SavedLogits(logits, np.zeros(4, np.int32)))
    assert is_finished(tmp_path, "clone")
    path = logits_path(tmp_path, "clone")
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + b"\x01" if damage == "flipped" else b"")
    assert not is_finished(tmp_path, "clone")


def test_64_bits_are_refused(tmp_path, config):
    with jax.enable_x64(True), pytest.raises(UserError, match="JAX_ENABLE_X64"):
        open_workdir(tmp_path, config, force_config=False)


def test_a_step_that_was_set_aside_is_no_run(started):
    step = started / "baseline" / "10"
    step.rename(step.with_name("10.damaged"))
    assert trained_runs(started) == []
