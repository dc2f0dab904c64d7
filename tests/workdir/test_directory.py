"""The small files of a workdir."""

import copy
import json

import pytest
from clonalnet_jax.configs import digits

from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.directory import open_workdir, read_results
from clonalnet_jax.workdir.files import write_atomically


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
