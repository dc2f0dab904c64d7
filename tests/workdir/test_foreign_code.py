"""What a workdir names is not imported from it, wherever Python looks first."""

import sys

import pytest

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.foreign_code import refuse_code_inside

SOURCE = "raise AssertionError('it must not be imported')\n"


@pytest.fixture
def workdir(tmp_path):
    """A workdir with code in it, beside code that is not."""
    directory = tmp_path / "run"
    for place in (
        "run/inside.py",
        "run/pack/__init__.py",
        "run/pack/nets.py",
        "run/names/nets.py",
        "outside.py",
        "apart/__init__.py",
        "apart/nets.py",
        "runner.py",
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE)
    (directory / "linked.py").symlink_to(tmp_path / "outside.py")
    (tmp_path / "pointing.py").symlink_to(directory / "inside.py")
    return directory


@pytest.mark.parametrize(
    "name",
    [
        *("inside:Net", "pack:Net", "pack.nets:Net", "pack.missing:Net"),
        *("names.nets:Net", "linked:Net", "pointing:Net", "run.inside:Net"),
        "run.pack.nets:Net",
    ],
)
def test_code_inside_is_refused_and_not_run(workdir, monkeypatch, name):
    monkeypatch.syspath_prepend(workdir)
    monkeypatch.syspath_prepend(workdir.parent)
    before = set(sys.modules)
    with pytest.raises(UserError, match="code lies in the workdir") as caught:
        refuse_code_inside(workdir, name, said_by="config.json")
    assert name in str(caught.value)
    assert "PYTHONPATH" in str(caught.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name",
    [
        *("outside:Net", "apart:Net", "apart.nets:Net", "runner:Net", "nowhere:Net"),
        *("flax.linen:Dense", "tests.models.strangers:Linen", "resnet20", None),
        *("", ":", ":Net", "..nets:Net", "no name:Net", "a/b:Net", "a:b:c"),
    ],
)
def test_other_code_is_let_through_and_not_run(workdir, monkeypatch, name):
    monkeypatch.syspath_prepend(workdir.parent)
    refuse_code_inside(workdir, name, said_by="config.json")
    assert not {"outside", "apart", "runner"} & set(sys.modules)


def test_a_seed_counts_as_the_whole_comparison(workdir, monkeypatch):
    monkeypatch.syspath_prepend(workdir)
    seed = workdir / "seed3"
    seed.mkdir()
    with pytest.raises(UserError, match="code lies in the workdir"):
        refuse_code_inside(seed, "inside:Net", said_by="config.json")


def test_a_module_that_is_imported_already_is_known_by_its_file(workdir, monkeypatch):
    (workdir / "loaded.py").write_text("Net = dict\n")
    monkeypatch.syspath_prepend(workdir)
    __import__("loaded")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(workdir)])
    with pytest.raises(UserError, match="code lies in the workdir"):
        refuse_code_inside(workdir, "loaded:Net", said_by="config.json")
    del sys.modules["loaded"]


def test_a_workdir_is_opened_only_if_its_code_lies_elsewhere(workdir, monkeypatch):
    monkeypatch.syspath_prepend(workdir)
    config = cn.config("digits")
    with config.unlocked():
        config.clone.model = "inside:Net"
    (workdir / "config.json").write_text(config.to_json_best_effort())
    for open_it in (cn.load, cn.evaluate):
        with pytest.raises(UserError, match=r"config\.json: inside:Net"):
            open_it(workdir)
    assert "inside" not in sys.modules
