"""The real program on the real digits, a few steps at a time."""

import copy
import gzip
import json
import shutil

import jax
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.training import story
from clonalnet_jax.workdir.checkpoints import restore_variables

# Before a fixture makes it one of a single device.
MESH_OF_ALL = partition.make_mesh


def weights(directory):
    return restore_variables(directory, partition.make_mesh())[0]


def records(workdir):
    return [json.loads(s) for s in (workdir / "metrics.jsonl").read_text().splitlines()]


def with_(config, **overrides):
    other = copy.deepcopy(config)
    other.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in overrides.items()}
    )
    return other


@pytest.fixture(scope="module", autouse=True)
def on_one_device(one_device):
    """Several devices have tests of their own, in `training/test_steps.py`."""


@pytest.fixture(scope="module")
def trained(trained_digits):
    """A finished workdir of two methods, and its config."""
    config, workdir = trained_digits
    config.methods = ("clone", "distillation")
    config.profile_steps = 2
    story.train(config, workdir)
    config.profile_steps = 0  # starting the profiler takes seconds
    return config, workdir


def test_results_hold_every_figure_of_every_run(trained):
    config, workdir = trained
    results = json.loads((workdir / "results.json").read_text())
    assert list(results) == ["baseline", *config.methods]
    for row in results.values():
        assert 60 < row["top1"] <= row["top5"] <= 100
        assert row["nll"] > 0
        assert 0 <= row["ece"] <= 100
        assert row["num_parameters"] == 77_290
        assert row["train_seconds"] > 0
        assert row["images_per_second"] > 0


def test_the_curve_names_every_term_of_the_loss(trained):
    _, workdir = trained
    found = [r for r in records(workdir) if r["run"] == "clone"]
    rows = [r for r in found if r["split"] == "train"]
    assert [r["step"] for r in rows] == [10, 20, 25, 30, 40, 50]
    for row in rows:
        terms = row["classification"] + row["attention"] + row["negentropy"]
        assert row["loss"] == pytest.approx(terms, rel=1e-4, abs=1e-4)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert [r["step"] for r in found if r["split"] == "test"] == [25, 50]


def test_a_run_has_a_trace_of_its_steps(trained):
    _, workdir = trained
    (trace,) = (workdir / "distillation" / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sum("train_step" in event.get("name", "") for event in events) >= 2


def test_tensorboard_shows_the_same_curve(trained):
    from tensorboardX.proto.event_pb2 import Event

    _, workdir = trained
    (path,) = (workdir / "tensorboard" / "clone").iterdir()
    content, events, offset = path.read_bytes(), [], 0
    while offset < len(content):
        size = int.from_bytes(content[offset : offset + 8], "little")
        events.append(Event.FromString(content[offset + 12 : offset + 12 + size]))
        offset += size + 16
    shown = {
        event.step: value.simple_value
        for event in events
        for value in event.summary.value
        if value.tag == "train/loss"
    }
    logged = {
        r["step"]: r["loss"]
        for r in records(workdir)
        if r["run"] == "clone" and r["split"] == "train"
    }
    assert shown == pytest.approx(logged, rel=1e-5)


def test_a_second_start_reports_and_trains_nothing(trained, capsys):
    config, workdir = trained
    before = (workdir / "metrics.jsonl").read_text()
    results = story.train(config, workdir)
    assert results == json.loads((workdir / "results.json").read_text())
    assert (workdir / "metrics.jsonl").read_text() == before
    assert capsys.readouterr().out.count("trained already") == 3


def test_evaluate_measures_the_same_from_the_checkpoints(trained):
    config, workdir = trained
    results = json.loads((workdir / "results.json").read_text())
    assert story.evaluate(config, workdir) == results


def test_evaluate_measures_what_there_is(trained, tmp_path):
    config, workdir = trained
    shutil.copytree(workdir / "clone", tmp_path / "w" / "clone")
    # A run is another config's to a workdir that does not know how it was started.
    shutil.copy(workdir / "environment.json", tmp_path / "w")
    (tmp_path / "w" / "distillation").mkdir()  # killed before its first checkpoint
    given = with_(config, baseline__checkpoint=str(workdir / "baseline"))
    assert list(story.evaluate(given, tmp_path / "w")) == ["baseline", "clone"]


def test_a_given_baseline_is_evaluated_without_methods(trained, tmp_path):
    config, workdir = trained
    given = with_(config, baseline__checkpoint=str(workdir / "baseline"), methods=())
    with pytest.raises(UserError, match="nothing trained"):
        story.evaluate(given, tmp_path)
    told = story.train(given, tmp_path)
    assert list(told) == ["baseline"]
    assert story.evaluate(given, tmp_path) == told


def test_evaluate_needs_something_trained(trained, tmp_path):
    with pytest.raises(UserError, match="nothing trained"):
        story.evaluate(trained[0], tmp_path / "empty")


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(trained, tmp_path):
    config, workdir = trained
    for seed, same in ((0, True), (1, False)):
        other = with_(config, methods=(), seed=seed)
        story.train(other, tmp_path / str(seed))
        equal = jax.tree.map(
            lambda x, y: bool((x == y).all()),
            weights(tmp_path / str(seed) / "baseline")["params"],
            weights(workdir / "baseline")["params"],
        )
        assert all(jax.tree.leaves(equal)) is same


@pytest.mark.slow
def test_a_lost_last_checkpoint_is_trained_again_to_the_same_bits(trained, tmp_path):
    config, workdir = trained
    copied = tmp_path / "copy"
    shutil.copytree(workdir, copied)
    shutil.rmtree(copied / "clone" / "50")
    results = story.train(config, copied)
    jax.tree.map(
        np.testing.assert_array_equal,
        weights(copied / "clone"),
        weights(workdir / "clone"),
    )
    assert results["clone"]["top1"] == pytest.approx(
        json.loads((workdir / "results.json").read_text())["clone"]["top1"]
    )
    key = ("run", "split", "step")
    seen = [tuple(r[k] for k in key) for r in records(copied)]
    assert sorted(seen) == sorted(tuple(r[k] for k in key) for r in records(workdir))


@pytest.mark.slow
def test_a_given_baseline_is_evaluated_and_left_bit_identical(trained, tmp_path):
    config, workdir = trained
    before = weights(workdir / "baseline")
    other = with_(
        config,
        baseline__checkpoint=str(workdir / "baseline"),
        methods=("clone",),
    )
    results = story.train(other, tmp_path / "w")
    expected = json.loads((workdir / "results.json").read_text())["baseline"]
    assert results["baseline"] == expected
    jax.tree.map(np.testing.assert_array_equal, weights(workdir / "baseline"), before)


@pytest.mark.slow
def test_a_smaller_clone_learns_from_a_larger_baseline(trained, tmp_path):
    config, workdir = trained
    other = with_(
        config,
        baseline__checkpoint=str(workdir / "baseline"),
        methods=("clone",),
        clone__options={"width": 16},
    )
    rows = story.train(other, tmp_path / "w")
    assert rows["clone"]["num_parameters"] < rows["baseline"]["num_parameters"] / 3
    assert rows["clone"]["top1"] > 50


@pytest.mark.slow
def test_the_best_checkpoint_is_picked_on_held_out_training_images(trained, tmp_path):
    config, _ = trained
    other = with_(config, methods=(), select="best", data__holdout=60)
    story.train(other, tmp_path / "w")
    splits = {r["split"] for r in records(tmp_path / "w")}
    assert splits == {"train", "holdout"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"baseline__model": "resnet14"}, "got:      a resnet8\n.*a resnet14"),
        ({"baseline__options": {"width": 8}}, "a resnet8 with options"),
        ({"baseline__min_top1": 100.0}, "too poor to learn from"),
        ({"baseline__checkpoint": "/nowhere"}, "no such directory"),
    ],
)
def test_an_unfit_baseline_stops_before_training(trained, tmp_path, overrides, message):
    config, workdir = trained
    given = {"baseline__checkpoint": str(workdir / "baseline")} | overrides
    with pytest.raises(UserError, match=message):
        story.train(with_(config, **given), tmp_path / "w")
    assert not (tmp_path / "w" / "clone").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (list("123456789"), "10 classes\n.*9 classes"),
        (list("1023456789"), "class 0 is '0'\n.*class 0 to be '1'"),
    ],
)
def test_a_baseline_of_other_classes_is_refused(
    trained, tmp_path, monkeypatch, names, message
):
    config, workdir = trained
    real = story.open_experiment

    def renamed(*args):
        import dataclasses

        experiment = real(*args)
        dataset = dataclasses.replace(experiment.dataset, class_names=tuple(names))
        return experiment._replace(dataset=dataset)

    monkeypatch.setattr(story, "open_experiment", renamed)
    given = with_(config, baseline__checkpoint=str(workdir / "baseline"))
    with pytest.raises(UserError, match=message):
        story.train(given, tmp_path / "w")


@pytest.mark.slow  # compiles a run of its own; training/test_chance.py has the limits
def test_a_baseline_that_knows_nothing_is_refused(digits_config, tmp_path):
    digits_config.steps = 1
    digits_config.optimizer.learning_rate = 1e-9
    digits_config.baseline.min_top1 = None
    with pytest.raises(UserError, match="too poor"):
        story.train(digits_config, tmp_path)
    assert not (tmp_path / "clone").exists()


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(trained, tmp_path):
    config, workdir = trained
    copied = tmp_path / "copy"
    shutil.copytree(workdir, copied)
    shutil.rmtree(copied / "clone" / "50")
    broken = with_(config, optimizer__learning_rate=1e30)
    with pytest.raises(UserError, match=r"step 2.*learning rate"):
        story.train(broken, copied, force_config=True)
    saved = [path.name for path in (copied / "clone").glob("[0-9]*")]
    assert saved == ["25"]
    weights(copied / "clone")


@pytest.mark.slow
def test_a_whole_run_on_eight_devices_is_that_of_one(trained, tmp_path, monkeypatch):
    config = with_(trained[0], methods=("clone",), steps=10)
    monkeypatch.setattr(partition, "make_mesh", MESH_OF_ALL)
    story.train(config, tmp_path / "eight")
    monkeypatch.undo()
    story.train(config, tmp_path / "one")
    losses = [
        [r["loss"] for r in records(tmp_path / name) if r["split"] == "train"]
        for name in ("eight", "one")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-2)
