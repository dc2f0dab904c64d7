"""Configs by name and by file, and what is wrong with them."""

import pytest
from clonalnet_jax.configs import digits

import clonalnet_jax as cn
from clonalnet_jax.configuration import load_config
from clonalnet_jax.errors import UserError

HEAD = "from clonalnet_jax.configs import default\n"


def test_a_name_means_the_packages_config_in_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = digits.get_config().to_dict()
    for named in ("digits", "configs/digits.py"):
        assert load_config(named).to_dict() == expected


def test_a_file_of_the_user_comes_before_the_packages_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "digits.py"
    path.write_text(
        f"{HEAD}def get_config():\n  c = default.get_config()\n  c.seed = 9\n  return c"
    )
    assert load_config("configs/digits.py").seed == 9
    assert load_config("digits").seed == 0


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("digts", "did you mean 'digits'"),
        ("configs/digts.py", "did you mean 'digits'"),
        ("/nowhere/mine.py", "No such file"),
    ],
)
def test_a_config_that_is_not_there_suggests_the_nearest(named, message):
    with pytest.raises(UserError, match=message):
        load_config(named)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ndef get_config(:", 2, "invalid syntax"),
        ("x = 1\nx.y.z", 2, "AttributeError"),
        ("import sys\nsys.exit('stop')", 2, "SystemExit"),
        ("import no_such_thing", 1, "No module named 'no_such_thing'"),
        ("\n\ndef get_config():\n  return 1 / 0", 4, "division by zero"),
        ("def get_config():\n  return {'seed': 1}", 1, "it returns dict"),
        ("def get_config():\n  pass", 1, "it returns NoneType"),
        ("def get_config(size):\n  return size", 1, r"get_config\(size\) takes"),
        ("get_configs = 3", None, "it has no function get_config"),
        ("get_config = 3", None, "it has no function get_config"),
        (
            "from ml_collections import ConfigDict\ndef get_config():\n"
            "  return ConfigDict({'seed': 1})",
            2,
            r"config\.\w+ is missing",
        ),
        (
            f"{HEAD}def get_config():\n  c = default.get_config()\n"
            "  c.seed = 'one'\n  return c",
            4,
            "seed",
        ),
        (
            f"{HEAD}def get_config():\n  c = default.get_config()\n"
            "  c.batch_size = None\n  return c",
            2,
            r"config\.batch_size is None",
        ),
        (
            f"{HEAD}def get_config():\n  c = default.get_config()\n"
            "  c.epoch = 3\n  return c",
            4,
            "did you mean 'epochs'",
        ),
        (
            f"{HEAD}def get_config():\n  c = default.get_config()\n"
            "  c.unlock()\n  c.batchsize = 3\n  return c",
            None,
            "did you mean 'batch_size'",
        ),
    ],
)
def test_a_broken_config_file_is_one_message_with_its_line(
    tmp_path, text, line, message
):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(str(path))
    start = f"{path}, line {line}\n" if line else str(path)
    assert str(caught.value).startswith(start)


def test_changes_reach_groups_and_options_and_leave_the_original_alone():
    before = cn.config("digits")
    config = cn.config(
        "digits", epochs=3, steps=7, clone={"model": "resnet14", "width": 8}
    )
    assert (config.epochs, config.steps, config.clone.model) == (3.0, 7, "resnet14")
    assert config.clone.options.to_dict() == {"width": 8}
    assert config.optimizer == before.optimizer
    assert before.clone.model == "resnet8"
    assert config.is_locked
    assert config.clone.options.is_locked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"loss": {"temprature": 3.0}}, "did you mean 'temperature'"),
        ({"seed": "one"}, "config.seed"),
        ({"seed": None}, "seed cannot be None"),
        ({"seed": {"deeper": 1}}, "config.seed"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        cn.config("digits", **changes)


def test_a_key_without_a_value_can_be_given_one_and_lose_it_again():
    assert cn.config("imagenet", data={"image_size": None}).data.image_size is None
