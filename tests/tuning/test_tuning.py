"""Settings that are tried on held-out training images."""

import copy
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from clonalnet_jax.configs import default
from hypothesis import given
from hypothesis import strategies as st

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.tuning.running import tune
from clonalnet_jax.tuning.search import propose
from clonalnet_jax.tuning.space import read_space, reads, settings_of
from clonalnet_jax.tuning.tables import best_variants, to_markdown
from clonalnet_jax.workdir.saved_logits import read_logits


@pytest.fixture
def config():
    return copy.deepcopy(default.get_config())


def spaced(config, *lines):
    config.tune.space = lines
    return read_space(config)


def test_the_space_begins_with_the_configs_own_value(config):
    space = spaced(config, "loss.temperature=1,2,4", "optimizer.betas=(0.8,0.99)")
    assert space["loss.temperature"] == (2.0, 1, 4)
    assert space["optimizer.betas"] == ((0.9, 0.999), (0.8, 0.99))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("loss.temprature=1,2", "loss.temperature"),
        ("data.holdout=1", "choose one of these"),
        ("clone.model=1", "choose one of these"),
        ("loss.temperature", "key, '=' and values"),
        ("loss.temperature=", "key, '=' and values"),
        ("loss.temperature=0", "above|at least"),
        ("loss.temperature=a+b", "values between commas"),
    ],
)
def test_a_bad_line_is_refused_by_name(config, line, message):
    with pytest.raises(UserError, match=message) as caught:
        spaced(config, line)
    assert "config.tune.space" in str(caught.value)


@pytest.mark.parametrize(
    ("method", "key", "expected"),
    [
        ("clone", "loss.attention_weight", True),
        ("clone_without_attention", "loss.attention_weight", False),
        ("clone_without_attention", "loss.temperature", True),
        ("label_smoothing", "loss.label_smoothing", True),
        ("label_smoothing", "loss.temperature", False),
        ("distillation", "distillation.weight", True),
        ("distillation", "loss.temperature", False),
        ("cross_entropy", "optimizer.learning_rate", True),
        ("dist", "distillation.weight", False),
    ],
)
def test_a_method_is_tried_with_what_it_reads(method, key, expected):
    assert reads(method, key) == expected


@given(budget=st.integers(1, 40), seed=st.integers(0, 3))
def test_every_method_gets_the_same_budget(budget, seed):
    config = copy.deepcopy(default.get_config())
    config.seed, config.tune.budget = seed, budget
    space = read_space(config)
    for method in ("clone", "distillation", "dkd", "dist"):
        settings = settings_of(config, method, space)
        assert len(settings) == min(budget, 12)
        assert settings[0] == {key: space[key][0] for key in settings[0]}
        assert len({json.dumps(setting) for setting in settings}) == len(settings)
        assert settings == settings_of(config, method, space)


def test_a_method_without_anything_to_tune_is_refused(config):
    space = spaced(config, "loss.temperature=1,2")
    with pytest.raises(
        UserError, match=r"'distillation', of which config\.tune\.space"
    ):
        settings_of(config, "distillation", space)


def played(config, space, score):
    """All proposals of a search, each with its score."""
    found, proposals = [], propose(config, "clone", space)
    setting = next(proposals)
    while True:
        found.append((setting, score(setting)))
        try:
            setting = proposals.send(found[-1][1])
        except StopIteration:
            return found


def near(setting):
    """Best at a temperature of 4 and an attention of 0.5."""
    away = abs(setting["loss.temperature"] - 4) + setting["loss.attention_weight"]
    return 90.0 - away


@pytest.mark.parametrize("search", ["grid", "optuna"])
def test_a_search_repeats_itself_and_ends(config, search):
    if search == "optuna":
        pytest.importorskip("optuna")
    config.tune.search, config.tune.budget = search, 10
    space = spaced(
        config, "loss.temperature=1,2,3,4,5,6,8", "loss.attention_weight=0,0.5,1,2"
    )
    found = played(config, space, near)
    assert found == played(config, space, near)
    assert len(found) == 10
    assert len({json.dumps(setting) for setting, _ in found}) == 10
    assert found[0][0] == {"loss.temperature": 2.0, "loss.attention_weight": 1.0}
    config.tune.budget = 100
    assert len(played(config, space, near)) == 28


def test_a_search_without_its_library_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    config.tune.search = "optuna"
    with pytest.raises(UserError, match=r"clonalnet-jax\[tune\]"):
        next(propose(config, "clone", read_space(config)))


def made_up():
    def tried(setting, *top1s):
        mean = float(np.mean(top1s))
        return {"setting": setting, "top1": mean, "top1_by_seed": top1s, "nll": 0.5}

    return {
        "seeds": [0, 1],
        "methods": {
            "clone": [
                tried({"loss.temperature": 1, "optimizer.learning_rate": 0.02}, 91, 93),
                tried({"loss.temperature": 2, "optimizer.learning_rate": 0.1}, 80, 81),
            ],
            "distillation": [tried({"distillation.weight": 0.5}, 90, 90)],
        },
    }


def test_the_best_becomes_a_method_that_the_config_takes(config):
    lines, rates = best_variants(made_up())
    config.variants = lines
    config.compare.methods = ("clone", "clone_tuned", "distillation_tuned")
    check_config(config)
    assert rates == {"clone_tuned": "--config.optimizer.learning_rate=0.02"}
    text = to_markdown(made_up())
    assert "| 1 | 0.02 | 92.00 ± 1.00 | 0.500 |" in text
    assert f'--config.variants="{tuple(lines)}"' in text


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_tuning_never_looks_at_the_test_split_and_goes_on(
    digits_config, tmp_path, capsys
):
    config = copy.deepcopy(digits_config)
    config.steps, config.tune.holdout = 4, 0.3
    config.tune.space = ("loss.temperature=1,2", "distillation.weight=0.5,0.9")
    config.baseline.cache = "views"
    result = tune(config, tmp_path / "w")
    assert "clone: setting 2 of 2" in "".join(capsys.readouterr())
    assert {k: len(v) for k, v in result["methods"].items()} == {
        "distillation": 2,
        "clone": 2,
    }
    for tried in result["methods"].values():
        assert tried[0]["top1"] >= tried[1]["top1"]
    home = tmp_path / "w" / "seed0"
    # Ninety of 300 training images, and none of the test images.
    (one, *_) = home.glob("clone-*")
    assert len(read_logits(one, "clone").labels) == 90
    assert not (one / "baseline").exists()
    saved = json.loads((tmp_path / "w" / "tune.json").read_text())
    assert saved == json.loads(json.dumps(result))
    ET.parse(tmp_path / "w" / "tune.svg")
    checkpoints = {p: p.stat().st_mtime_ns for p in home.rglob("_CHECKPOINT_METADATA")}
    for name in ("results.json", "digests.json"):
        # As where it was stopped before this setting was done.
        (one / name).unlink(missing_ok=True)
    assert tune(config, tmp_path / "w") == result
    config.optimizer.momentum = 0.8
    with pytest.raises(UserError, match=r"config\.optimizer\.momentum"):
        tune(config, tmp_path / "w")
    assert checkpoints == {
        p: p.stat().st_mtime_ns for p in home.rglob("_CHECKPOINT_METADATA")
    }


@pytest.mark.slow
@pytest.mark.usefixtures("one_device", "two_blocks")
def test_a_setting_that_breaks_down_is_the_last_and_ends_nothing(
    digits_config, tmp_path
):
    config = copy.deepcopy(digits_config)
    config.tune.methods, config.tune.holdout = ("cross_entropy",), 0.3
    config.tune.space = ("optimizer.learning_rate=1e30,0.05",)
    (found,) = tune(config, tmp_path / "w")["methods"].values()
    last = found[-1]
    assert last["setting"] == {"optimizer.learning_rate": 1e30}
    assert last["nll"] is None
    assert last["top1"] == 0.0
    assert [one["nll"] is None for one in found] == [False, False, True]
    assert "broke down" in (tmp_path / "w" / "tune.md").read_text()


def test_a_share_that_leaves_nothing_is_refused(digits_config, tmp_path):
    digits_config.tune.holdout = 0.999
    with pytest.raises(UserError, match=r"config\.data\.holdout"):
        tune(digits_config, tmp_path / "w")


@pytest.mark.parametrize("change", [{"holdout": 0}, {"select": "best", "holdout": 9}])
def test_no_checkpoint_is_picked_by_what_it_is_tested_on(config, change):
    config.data.test_on, config.data.holdout = "holdout", change["holdout"]
    config.select = change.get("select", "last")
    with pytest.raises(UserError, match=r"config\.data\.test_on"):
        check_config(config)
