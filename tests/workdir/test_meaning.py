"""What a config means, and runs that are taken for another config's."""

import dataclasses
import hashlib
import json
import shutil

import jax
import pytest
from test_checkpoints import META, make_state, shapes, warn_never

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.workdir.checkpoints import (
    Checkpoints,
    read_meta,
    restore_variables,
)
from clonalnet_jax.workdir.directory import open_workdir, started_experiments
from clonalnet_jax.workdir.meaning import name_experiment
from clonalnet_jax.workdir.sealed import write_sealed


def config_of(**overrides):
    return cn.config("digits", **overrides)


@pytest.fixture(scope="module")
def mesh():
    return partition.make_mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mesh):
    """A workdir of seed 0 with one checkpoint of a clone."""
    workdir = tmp_path_factory.mktemp("seed0") / "w"
    open_workdir(workdir, config_of(), force_config=False)
    meta = dataclasses.replace(META, step=10, experiment=name_experiment(config_of()))
    with Checkpoints(workdir / "clone") as checkpoints:
        checkpoints.save(make_state(mesh), meta, {"top1": 50.0})
    return workdir


def resume(workdir, mesh):
    with Checkpoints(workdir / "clone") as checkpoints:
        return checkpoints.restore(shapes(mesh), META, warn=warn_never)


@pytest.mark.parametrize(
    "overrides", [{"seed": 1}, {"loss": {"temperature": 4.0}}, {"clone": {"width": 4}}]
)
def test_a_run_of_another_config_or_seed_has_another_name(overrides):
    name = name_experiment(config_of(**overrides))
    assert name != name_experiment(config_of())
    assert name.startswith(f"seed {overrides.get('seed', 0)}, config ")


@pytest.mark.parametrize(
    "overrides", [{"data": {"threads": 3}}, {"methods": ()}, {"log_every_steps": 7}]
)
def test_what_does_not_shape_a_run_changes_no_name(overrides):
    assert name_experiment(config_of(**overrides)) == name_experiment(config_of())


def test_a_key_that_a_later_version_adds_changes_no_name():
    older = config_of(seed=3)
    with older.unlocked():
        del older.ema_decay
    assert name_experiment(older) == name_experiment(config_of(seed=3))


@pytest.mark.parametrize("overrides", [{"seed": 1}, {"loss": {"temperature": 4.0}}])
def test_a_run_that_was_copied_from_another_workdir_is_refused(
    trained, tmp_path, mesh, overrides
):
    config = config_of(**overrides)
    open_workdir(tmp_path, config, force_config=False)
    shutil.copytree(trained / "clone", tmp_path / "clone")
    message = rf"of another workdir\n  got: .*{name_experiment(config_of())}\n.*"
    with pytest.raises(UserError, match=message + name_experiment(config)):
        restore_variables(tmp_path / "clone", mesh, run="clone")
    with pytest.raises(UserError, match=message):
        resume(tmp_path, mesh)


def test_a_workdir_that_was_moved_and_started_otherwise_goes_on(
    trained, tmp_path, mesh
):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    open_workdir(moved, config_of(log_every_steps=7), force_config=False)
    _, meta = resume(moved, mesh)
    assert meta.step == 10
    assert read_meta(moved / "clone", run="clone").step == 10


def test_a_forced_start_keeps_what_was_there_before(trained, tmp_path, mesh):
    shutil.copytree(trained, tmp_path / "w")
    forced = config_of(seed=1)
    open_workdir(tmp_path / "w", forced, force_config=True)
    open_workdir(tmp_path / "w", forced, force_config=False)
    assert len(started_experiments(tmp_path / "w")) == 2
    assert resume(tmp_path / "w", mesh) is not None


@pytest.mark.parametrize("older", ["checkpoint", "workdir"])
def test_what_an_older_version_has_written_is_taken_as_it_is(
    trained, tmp_path, mesh, older
):
    open_workdir(tmp_path, config_of(seed=1), force_config=False)
    if older == "workdir":
        shutil.copytree(trained / "clone", tmp_path / "clone")
        starts = json.loads((tmp_path / "environment.json").read_text())
        del starts[0]["experiment"]
        write_sealed(tmp_path, "environment.json", json.dumps(starts))
    else:
        with Checkpoints(tmp_path / "clone") as checkpoints:
            meta = dataclasses.replace(META, step=10)
            checkpoints.save(make_state(mesh), meta, {"top1": 50.0})
    assert read_meta(tmp_path / "clone", run="clone").step == 10


def test_a_number_of_held_out_images_is_named_as_before_it_could_be_a_share():
    digest = hashlib.sha256(b'{"data.holdout": 40}').hexdigest()[:12]
    config = cn.config("default", data={"holdout": 40})
    assert name_experiment(config) == f"seed 0, config {digest}"
    share = cn.config("default", data={"holdout": 0.5})
    assert name_experiment(share) != name_experiment(config)
