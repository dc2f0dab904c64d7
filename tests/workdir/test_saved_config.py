"""The config that a workdir holds, written by this version or another."""

import json

import pytest

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.directory import open_workdir
from clonalnet_jax.workdir.saved_config import saved_config
from clonalnet_jax.workdir.sealed import write_sealed


@pytest.fixture
def config():
    return cn.config("imagenet", clone={"width": 8}, data={"path": "/images"})


@pytest.fixture
def workdir(tmp_path, config):
    open_workdir(tmp_path, config, force_config=False)
    return tmp_path


def rewrite(workdir, change):
    path = workdir / "config.json"
    content = json.loads(path.read_text())
    change(content)
    # As a program wrote it that knew no seals, or other keys.
    write_sealed(workdir, "config.json", json.dumps(content))


def test_a_config_comes_back_as_it_was_saved(workdir, config):
    again = saved_config(workdir)
    assert again.to_dict() == config.to_dict()
    assert again.is_locked


def test_keys_that_are_newer_than_the_file_have_their_defaults(workdir, config):
    def forget(content):
        del (
            content["watchdog_minutes"],
            content["data"]["on_error"],
            content["logit_standardisation"],
        )

    rewrite(workdir, forget)
    assert saved_config(workdir).to_dict() == config.to_dict()
    # And so an old workdir still belongs to its experiment.
    step = workdir / "baseline" / "10"
    step.mkdir(parents=True)
    (step / "_CHECKPOINT_METADATA").write_text("{}")
    open_workdir(workdir, config, force_config=False)


def test_a_comparison_has_the_config_of_its_first_seed(workdir, config, tmp_path):
    for seed in (10, 9):
        directory = tmp_path / "compared" / f"seed{seed}"
        open_workdir(directory, cn.config("digits", seed=seed), force_config=False)
    assert saved_config(tmp_path / "compared").seed == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "a list instead of an object"),
        ('"text"', "a string instead of an object"),
        ('{"name": "npm"}', "the key name, which this version does not know"),
        ('{"seed": "one"}', "seed"),
        ('{"seed": null}', "the key seed is null"),
        ('{"loss": 3}', "loss"),
        ('{"seed": {"a": 1}}', "seed"),
    ],
)
def test_a_file_of_another_kind_is_one_message(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        saved_config(tmp_path)


def test_a_directory_without_one_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        saved_config(tmp_path)


@pytest.mark.parametrize(
    "use",
    [cn.load, cn.export, lambda workdir: cn.predict(workdir, workdir)],
    ids=["load", "export", "predict"],
)
def test_a_saved_config_is_checked_as_a_new_one_is(tmp_path, use):
    open_workdir(tmp_path, cn.config("digits", seed=-1), force_config=False)
    with pytest.raises(UserError, match=r"config\.seed\n  got: +-1"):
        use(tmp_path)
