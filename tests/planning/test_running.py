"""The mode: a plan in words and as JSON, with the compiler and without."""

import json
import os
import signal

import jax
import pytest
from clonalnet_jax.configs import digits, imagenet

from clonalnet_jax.errors import UserError
from clonalnet_jax.planning import programs, running, targets
from clonalnet_jax.planning.words import describe

KEYS = {
    "topology", "config", "compiler", "networks", "programs", "memory",
    "largest_batch", "input", "run",
}  # fmt: skip


@pytest.fixture
def config():
    config = digits.get_config()
    with config.unlocked():
        config.plan.train_images = 1_000
        config.data.synthetic_shape = (8, 8, 3)
        config.batch_size = 64
        config.baseline.options = {"width": 8}
        config.clone.options = {"width": 8}
    return config


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(running, "has_compiler", lambda topology: False)


@pytest.fixture
def compiled_for_cpu(monkeypatch, two_blocks):
    """The one compiler that is always here stands in for that of a slice."""
    monkeypatch.setattr(running, "has_compiler", lambda topology: True)
    monkeypatch.setattr(
        running, "find_devices", lambda topology: jax.devices()[: topology.devices]
    )
    monkeypatch.setattr(running, "_compiler", lambda topology: "the CPU's")
    lower = programs.Shapes.lower
    monkeypatch.setattr(
        programs.Shapes, "lower", lambda shapes, _: lower(shapes, "cpu")
    )


def plan(config, tmp_path, topology, *, run=running.run_plan, **asked):
    assert run(config, tmp_path, topology=topology, **asked) == 0
    name = topology.replace(":", "-")
    return json.loads((tmp_path / "plan" / f"{name}.json").read_text())


def test_without_a_compiler_it_counts(config, tmp_path, capsys, no_compiler):
    found = plan(config, tmp_path, "v5e:2x2")
    said = capsys.readouterr()
    assert "plan-tpu" in said.err
    assert "Counted, not compiled" in said.out
    assert found.keys() == KEYS
    assert found["compiler"] is None
    assert found["memory"]["fits"] is None
    step = found["programs"]["clone"]
    assert step["seconds"] == pytest.approx(step["operations"] / 197e12)
    steps = round(config.epochs * 1_000 / 64)
    assert found["run"]["steps"] == steps
    of_runs = [
        found["programs"][name]["seconds"]
        for name in ("baseline", *running.programs_of_methods(config))
    ]
    assert found["run"]["hours"] == pytest.approx(steps * sum(of_runs) / 3600)


@pytest.mark.parametrize(
    ("padding", "said"),
    [
        ({}, ""),
        ({16: 90}, ""),  # of a thousand
        (
            {16: 400, 100: 100},
            "adds 50 % to the traffic, 80 % of that where a dimension has 16",
        ),
        ({100: 500}, "where a dimension has 100."),
    ],
)
def test_padding_is_named_and_the_batch_that_has_none(
    config, tmp_path, no_compiler, padding, said
):
    config.plan.programs = ("clone", "evaluation")
    found = plan(config, tmp_path, "v5e:2x2")
    assert found["config"]["images_at_once"] == 16
    for name in found["programs"]:
        found["programs"][name] |= {
            "traffic": 1000 if name == "clone" else 1,
            "padding": [{"elements": n, "bytes": size} for n, size in padding.items()],
        }
    text = describe(found)
    assert said in text
    assert ("Padding" in text) == bool(said)
    # Eight times as many images fill the tile.
    assert ("--config.batch_size=512" in text) == ("has 16" in said)


def test_the_parts_that_take_most_are_named(config, tmp_path, no_compiler):
    config.plan.programs = ("baseline", "clone")
    found = plan(config, tmp_path, "v5e:2x2")
    assert "Most " not in describe(found)  # nothing was compiled
    clone = found["programs"]["clone"]
    names = ("conv, backward", "conv", "bn", "fc", "loss")
    clone["parts"] = [
        {"part": part, "share": share}
        for part, share in zip(names, (0.4, 0.3, 0.1, 0.05, 0.04), strict=True)
    ]
    named = "(beside baseline): 40 % conv, backward; 30 % conv; 10 % bn; 5 % fc."
    assert f"Most traffic {named}" in describe(found)
    clone["seconds_by"]["cycles"] = 1e-3
    assert f"Most cycles {named}" in describe(found)
    # Each name is whole, however long the line gets.
    for one in clone["parts"]:
        one["part"] = f"VisionTransformer/blocks/attention/{one['part']}"
    text = describe(found)
    assert all(one["part"] in text for one in clone["parts"][:4])
    assert clone["parts"][4]["part"] not in text


def test_imagenet_is_planned_without_its_data(tmp_path, capsys, no_compiler):
    config = imagenet.get_config()
    config.plan.programs = ("evaluation",)
    found = plan(config, tmp_path, "h100:8", format="json")
    assert json.loads(capsys.readouterr().out) == found
    assert found["config"]["image_shape"] == [224, 224, 3]
    assert found["config"]["classes"] == 1000
    # Those that config.data.holdout keeps aside are not trained on.
    assert found["config"]["train_images"] == round(0.98 * 1_281_167)
    assert found["networks"]["clone"]["parameters"] == 11_689_512
    # 1.8 G products and sums for an image, less those with the padding.
    assert 3.2e9 < found["programs"]["evaluation"]["operations"] / 32 < 3.7e9
    assert found["run"] is None


@pytest.mark.slow
def test_compiled_it_says_what_is_sent_and_whether_it_fits(
    config, tmp_path, capsys, compiled_for_cpu
):
    found = plan(config, tmp_path, "v5e:2x4")
    said = capsys.readouterr().out
    assert "Compiled here for devices that are not here" in said
    assert "It fits" in said
    assert "measured" not in said
    clone, cached = found["programs"]["clone"], found["programs"]["cached"]
    assert clone["operations"] > cached["operations"]
    assert clone["traffic"] > cached["traffic"]
    assert any(one["part"].startswith("baseline/") for one in clone["parts"])
    assert not any(one["part"].startswith("baseline/") for one in cached["parts"])
    assert (
        f"Most traffic (beside baseline): {100 * clone['parts'][0]['share']:.0f} %"
        in said
    )
    gradients = found["networks"]["clone"]["parameter_bytes"]
    for step in (clone, cached):
        kinds = {one["kind"] for one in step["collectives"]}
        assert kinds == {"all-reduce"}
        sent = sum(one["bytes"] for one in step["collectives"])
        assert gradients <= sent < 1.2 * gradients
    assert found["programs"]["evaluation"]["memory"]["peak"] > 0
    # A thousand images are fewer than fit.
    assert found["largest_batch"]["batch_size"] == 960
    assert found["largest_batch"]["too_large"] is None


@pytest.mark.slow
def test_what_does_not_fit_is_told_the_batch_that_does(
    config, tmp_path, capsys, monkeypatch, compiled_for_cpu
):
    config.plan.programs = ("clone",)
    config.plan.train_images = 1_000_000
    config.batch_size = 512
    config.plan.find_batch = False
    first = plan(config, tmp_path, "v5e:2x4")["programs"]["clone"]["memory"]["peak"]
    monkeypatch.setattr(running.estimates, "usable_memory", lambda topology: first - 1)
    config.plan.find_batch = True
    found = plan(config, tmp_path, "v5e:2x4")
    assert found["memory"]["fits"] is False
    assert found["largest_batch"]["batch_size"] < 512
    assert found["largest_batch"]["too_large"] <= 512
    assert found["largest_batch"]["needed"] < first
    assert "It does NOT fit" in capsys.readouterr().out


@pytest.mark.slow
def test_what_the_compiler_gives_up_on_does_not_fit(
    config, tmp_path, capsys, monkeypatch, compiled_for_cpu
):
    def give_up(lowered, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 17 GiB of 16 GiB hbm")

    monkeypatch.setattr(jax.stages.Lowered, "compile", give_up)
    found = plan(config, tmp_path, "v5e:2x4")
    assert found["memory"]["fits"] is False
    assert found["largest_batch"]["batch_size"] is None
    said = capsys.readouterr().out
    assert "too much" in said
    assert "No batch fits" in said


def test_another_refusal_of_the_compiler_is_told(
    config, tmp_path, monkeypatch, compiled_for_cpu
):
    def refuse(lowered, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such thing\nand a long tale")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    with pytest.raises(UserError, match="INTERNAL: no such thing") as found:
        plan(config, tmp_path, "v5e:2x4")
    assert "long tale" not in str(found.value)


def test_missing_data_may_be_left_out(tmp_path, no_compiler):
    config = imagenet.get_config()
    config.plan.train_images = None
    config.data.path = str(tmp_path)
    with pytest.raises(UserError, match=r"plan without the data.*train_images"):
        plan(config, tmp_path, "h100:8")


def test_a_batch_that_devices_cannot_share_is_refused(config, tmp_path, no_compiler):
    config.batch_size = 60
    with pytest.raises(UserError, match=r"--config\.batch_size=64"):
        plan(config, tmp_path, "v5e:4x4")


def test_split_classes_are_counted_without_a_compiler(config, tmp_path, no_compiler):
    config.plan.programs = ("evaluation",)
    whole = plan(config, tmp_path, "v5e:2x4")["programs"]["evaluation"]
    config.partition.model = 2
    split = plan(config, tmp_path, "v5e:2x4")
    assert split["config"]["batch_of_device"] == 8
    assert split["programs"]["evaluation"]["operations"] == whole["operations"]


def test_another_format_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="text or json"):
        plan(config, tmp_path, "v5e:4x4", format="csv")


def _crash(*arguments, **asked):
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_compiler_that_crashes_is_told_of(config, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "has_compiler", lambda topology: True)
    monkeypatch.setattr(running, "run_plan", _crash)  # the child imports this one
    with pytest.raises(UserError, match="it crashed: SIGSEGV") as caught:
        running.run_plan_apart(config, tmp_path, topology="v6e:1x1")
    assert "--topology=v6e:1x1" in caught.value.culprit


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v5e:2x2", "h100:8"])
def test_a_real_compiler_says_what_a_small_network_needs(config, tmp_path, name):
    if not targets.has_compiler(targets.parse_topology(name)):
        pytest.skip("the compiler is not installed: .ci/run's second stage has libtpu")
    config.plan.programs = ("clone",)
    config.plan.find_batch = False
    config.compute_dtype = "bfloat16"
    found = plan(config, tmp_path, name, run=running.run_plan_apart)
    step = found["programs"]["clone"]
    assert found["memory"]["fits"]
    assert {one["kind"] for one in step["collectives"]} == {"all-reduce"}
    sent = sum(one["bytes"] for one in step["collectives"])
    gradients = found["networks"]["clone"]["parameter_bytes"]
    assert {one["dtype"] for one in step["collectives"]} == {"f32"}
    assert gradients <= sent <= 1.2 * gradients
    assert (step["seconds_by"]["cycles"] is None) == (name == "h100:8")
    assert step["launches"] < 700
