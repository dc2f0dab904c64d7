"""Two seeds of a few methods on the digits, killed on the way."""

import copy
import csv
import json
import shutil

import numpy as np
import pytest
from clonalnet_jax.configs import digits

from clonalnet_jax.analysis.calibration import fit_temperature
from clonalnet_jax.analysis.metrics import measure_logits
from clonalnet_jax.comparing import running, tables
from clonalnet_jax.errors import UserError, csv_cell
from clonalnet_jax.training import story
from clonalnet_jax.workdir.saved_logits import (
    SavedLogits,
    read_logits,
    write_logits,
)

pytestmark = pytest.mark.slow

METHODS = ("cross_entropy", "distillation", "dkd")
COMPARED = METHODS[:2]


def config_of(config, **overrides):
    config.methods = ("clone",)
    config.compare.methods = METHODS
    config.compare.seeds = 2
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module", autouse=True)
def on_one_device(one_device, two_blocks):
    """What is compared has nothing to do with devices, nor with the network."""


@pytest.fixture(scope="module")
def compared(tmp_path_factory, tfds_dir):
    """A finished comparison that was interrupted in the second seed."""
    config = copy.deepcopy(digits.get_config())
    config.data.path = tfds_dir
    config.baseline.min_top1 = 0.0
    config.steps = 12
    config = config_of(config, **{"compare.methods": COMPARED})
    workdir = tmp_path_factory.mktemp("compared")
    real, calls = story.train_run, []

    def interrupted(*args, **kwargs):
        calls.append(args[1])
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "train_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            running.compare(config, workdir)
    assert not (workdir / "compare.json").exists()
    finished = (workdir / "seed0" / "metrics.jsonl").read_text()
    result = running.compare(config, workdir)
    assert (workdir / "seed0" / "metrics.jsonl").read_text() == finished
    return config, workdir, result


def test_every_run_of_every_seed_is_compared(compared):
    _, workdir, result = compared
    assert result == json.loads((workdir / "compare.json").read_text())
    assert result["seeds"] == [0, 1]
    assert result["test_images"] == 1497
    assert list(result["methods"]) == ["baseline", *COMPARED]
    for run, metrics in result["methods"].items():
        rows = [
            json.loads((workdir / f"seed{seed}" / "results.json").read_text())[run]
            for seed in (0, 1)
        ]
        for name in ("top1", "top5", "nll", "ece"):
            values = [row[name] for row in rows]
            assert metrics[name]["per_seed"] == pytest.approx(values, rel=1e-6)
            assert metrics[name]["mean"] == pytest.approx(np.mean(values))
        assert metrics["nll_scaled"]["mean"] < metrics["nll"]["mean"] + 0.02


def test_differences_are_paired_by_seed_and_image(compared):
    _, _, result = compared
    found = result["differences"]["cross_entropy"]["distillation"]
    top1 = [
        result["methods"][run]["top1"]["per_seed"]
        for run in ("distillation", "cross_entropy")
    ]
    assert found["top1"]["mean"] == pytest.approx(np.mean(top1[0]) - np.mean(top1[1]))
    for seed, test in enumerate(found["mcnemar"]):
        gain = (test["gained"] - test["lost"]) / 1497
        assert 100 * gain == pytest.approx(top1[0][seed] - top1[1][seed], abs=1e-3)


def test_every_method_is_compared_with_the_baseline(compared):
    _, _, result = compared
    assert next(iter(result["differences"])) == "baseline"
    found = result["differences"]["baseline"]
    assert list(found) == list(COMPARED)
    for run, one in found.items():
        top1 = [result["methods"][k]["top1"]["mean"] for k in (run, "baseline")]
        assert one["top1"]["mean"] == pytest.approx(top1[0] - top1[1])
        assert one["verdict"] == "not tested: 2 seeds are too few"


def test_the_table_and_the_csv_say_the_same(compared):
    _, workdir, result = compared
    text = (workdir / "compare.md").read_text()
    mean = result["methods"]["distillation"]["top1"]
    assert f"{mean['mean']:.2f} ± {mean['standard_error']:.2f}" in text
    assert "the other half of the test split" in text
    assert "cannot be below 0.5" in text
    assert "trained anew for each seed" in text
    with (workdir / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 6
    run = "cross_entropy"
    (row,) = [r for r in rows if (r["run"], r["metric"]) == (run, "top1")]
    difference = result["differences"]["distillation"][run]["top1"]
    assert float(row["mean"]) == result["methods"][run]["top1"]["mean"]
    assert float(row["minus_distillation_mean"]) == difference["mean"]
    # Two seeds are not tested, so that there is no p-value to write.
    assert difference["p_holm"] is None
    assert row["minus_distillation_p_holm"] == ""


def test_a_second_start_opens_nothing(compared, monkeypatch, capsys):
    config, workdir, result = compared
    monkeypatch.setattr(story, "open_experiment", None)
    assert running.compare(config, workdir) == result
    assert "seed 1: finished already" in capsys.readouterr().out


def test_another_config_is_refused_although_all_is_finished(compared):
    config, workdir, _ = compared
    other = copy.deepcopy(config)
    other.steps = 13
    with pytest.raises(UserError, match="another experiment"):
        running.compare(other, workdir)


def test_lost_predictions_are_made_again_without_training(compared, tmp_path):
    config, workdir, result = compared
    shutil.copytree(workdir, tmp_path / "w")
    (tmp_path / "w" / "seed1" / "predictions" / "distillation.safetensors").unlink()
    before = (tmp_path / "w" / "seed1" / "metrics.jsonl").read_text()
    assert running.compare(config, tmp_path / "w") == result
    assert (tmp_path / "w" / "seed1" / "metrics.jsonl").read_text() == before


def test_progress_counts_all_runs(digits_config, tmp_path, monkeypatch, capsys):
    config = config_of(digits_config)
    done = []
    monkeypatch.setattr(story, "is_finished", lambda workdir, run: False)
    monkeypatch.setattr(tables, "tabulate", None)

    def train(config, workdir, *, force_config, announce):
        for run in ("baseline", *config.methods):
            announce(run)
            done.append((config.seed, run))

    monkeypatch.setattr(story, "train", train)
    with pytest.raises(UserError, match="predictions of a finished run"):
        running.compare(config, tmp_path)
    assert len(set(done)) == 8
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run 1 of 8: seed 0 baseline"
    assert lines[-1] == "run 8 of 8: seed 1 dkd, about 1 min left"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("compare.seeds", 0, "at least 1"),
        ("compare.methods", ("clnoe",), "did you mean 'clone'"),
        ("compare.methods", ("clone", "clone"), "each once"),
        ("compare.methods", (), "at least one"),
    ],
)
def test_impossible_comparisons_are_named(digits_config, tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        running.compare(config_of(digits_config, **{key: value}), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def made_up(rng, directory, gain):
    """SavedLogits of three runs; `gain` images more are right under dkd."""
    labels = rng.integers(4, size=400).astype(np.int32)
    wrong = rng.permutation(400)
    for run, count in (("baseline", 120), ("cross_entropy", 120), ("dkd", 120 - gain)):
        logits = np.eye(4, dtype=np.float32)[labels] * 2
        flipped = rng.permutation(wrong[:200])[:count]
        logits[flipped] = np.roll(logits[flipped], 1, axis=-1)
        write_logits(directory, run, SavedLogits(logits, labels))
    return labels


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((30, 32, 31, 29), "higher"),
        ((-30, -32, -31, -29), "lower"),
        ((4, -5, 3, -2), "no difference shown"),
        ((30,), "not tested: one seed"),
        ((30, 31), "not tested: 2 seeds are too few"),
        ((30, 30, 30), "not tested: every seed differs by the same"),
        (
            (1, -1, 0, 1, 0, -1),
            "no difference shown; not worse by 0.5 points",
        ),
    ],
)
def test_the_verdict_says_what_is_shown(rng, digits_config, tmp_path, gains, verdict):
    config = config_of(digits_config)
    config.compare.methods = ("cross_entropy", "dkd")
    directories = [tmp_path / str(seed) for seed in range(len(gains))]
    for directory, gain in zip(directories, gains, strict=True):
        made_up(np.random.default_rng(0), directory, gain)
    result = tables.tabulate(config, range(len(gains)), directories)
    found = result["differences"]["cross_entropy"]["dkd"]
    assert found["verdict"] == verdict
    assert found["top1"]["mean"] == pytest.approx(100 * np.mean(gains) / 400, abs=1e-4)
    assert verdict in tables.write_comparison(result, tmp_path)
    with (tmp_path / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = [r for r in rows if (r["run"], r["metric"]) == ("dkd", "top1")]
    p_holm = found["top1"]["p_holm"]
    written = row["minus_cross_entropy_p_holm"]
    assert written == ("" if p_holm is None else str(p_holm))


def test_a_given_baseline_is_never_scaled_on_images_it_may_have_seen(
    digits_config, tmp_path, rng
):
    config = config_of(digits_config)
    config.compare.methods, config.data.holdout = ("dkd",), 40
    made_up(rng, tmp_path, 20)
    saved = read_logits(tmp_path, "baseline")
    # What it was trained on: it knows all answers, and a temperature says so.
    known = np.float32(50.0) * np.eye(10, dtype=np.float32)[saved.labels[:40]]
    seen = saved._replace(holdout_logits=known, holdout_labels=saved.labels[:40])
    write_logits(tmp_path, "baseline", seen)
    scaled = {}
    for given in (None, str(tmp_path)):
        config.baseline.checkpoint = given
        result = tables.tabulate(config, [0], [tmp_path])
        scaled[given] = result["methods"]["baseline"]["nll_scaled"]["mean"]
        assert ("may have been trained on those" in result["caption"]) is bool(given)
    assert scaled[str(tmp_path)] < scaled[None]


def test_seeds_with_other_test_images_are_not_compared(rng, digits_config, tmp_path):
    config = config_of(digits_config)
    config.compare.methods = ("cross_entropy", "dkd")
    for name in "ab":
        made_up(rng, tmp_path / name, 0)
    with pytest.raises(UserError, match="labels of their own"):
        tables.tabulate(config, [0, 1], [tmp_path / "a", tmp_path / "b"])


def test_held_out_images_give_the_temperature(digits_config, tmp_path, rng):
    digits_config.data.holdout = 60
    digits_config.methods = ("cross_entropy",)
    results = story.train(digits_config, tmp_path)
    saved = read_logits(tmp_path, "cross_entropy")
    assert saved.holdout_logits.shape == (60, 10)
    measured = measure_logits(saved.logits, saved.labels)
    assert measured == pytest.approx(
        {name: results["cross_entropy"][name] for name in measured}
    )
    digits_config.compare.methods = ("cross_entropy",)
    result = tables.tabulate(digits_config, [0], [tmp_path])
    temperature = fit_temperature(saved.holdout_logits, saved.holdout_labels)
    scaled = measure_logits(saved.logits / np.float32(temperature), saved.labels)
    mean = result["methods"]["cross_entropy"]["nll_scaled"]["mean"]
    assert mean == pytest.approx(scaled["nll"], rel=1e-5)
    assert "held-out training images" in result["caption"]
    path = tmp_path / "predictions" / "cross_entropy.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"cross_entropy\.safetensors"):
        read_logits(tmp_path, "cross_entropy")


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "\x1b[2J", "two\nlines", "a|b", "x" * 5_000_000]
)
def test_a_name_that_others_chose_breaks_no_table(digits_config, tmp_path, name):
    config = config_of(digits_config)
    config.compare.methods = ("cross_entropy", "dkd")
    made_up(np.random.default_rng(0), tmp_path, 20)
    result = tables.tabulate(config, [0], [tmp_path])
    result["methods"][name] = result["methods"]["dkd"]
    result["differences"]["cross_entropy"][name] = result["differences"][
        "cross_entropy"
    ]["dkd"]
    markdown = tables.write_comparison(result, tmp_path)
    lines = markdown.splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines[:6]} == {8}
    assert "\x1b" not in markdown
    assert len(markdown) < 10_000
    before = csv.field_size_limit(10_000_000)
    with (tmp_path / "compare.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    csv.field_size_limit(before)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[0] for row in rows].count(csv_cell(name)) == len(tables.METRICS)
    assert not any(row[0].startswith("=") for row in rows)
