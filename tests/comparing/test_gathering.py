"""Seeds that were trained apart, brought together from small files alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clonalnet_jax as cn
from clonalnet_jax.comparing.gathering import gather
from clonalnet_jax.comparing.seeds import measure_seed, read_seed, write_seed
from clonalnet_jax.comparing.tables import tabulate
from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir.saved_logits import SavedLogits, write_logits

ROOT = Path(__file__).parent.parent.parent
METHODS = ("cross_entropy", "clone")
IMAGES = 203  # no multiple of eight


def config_of(**changes):
    compare = {"methods": METHODS, "seeds": 3}
    return cn.config("digits", compare=compare, **changes)


def predict(directory, seed, *, labels=None, images=IMAGES):
    """Made-up predictions of the three runs of a seed."""
    labels = np.arange(images) % 10 if labels is None else labels
    rng = np.random.default_rng(seed)
    for skill, run in enumerate(("baseline", *METHODS), 1):
        logits = rng.standard_normal((images, 10)).astype(np.float32)
        logits[np.arange(images), labels] += skill
        write_logits(directory, run, SavedLogits(logits, labels.astype(np.int32)))


def train(directory, seed, config=None, **given):
    """A seed as `compare` leaves it on some machine."""
    predict(directory, seed, **given)
    write_seed(measure_seed(config or config_of(), seed, directory), directory)
    shutil.rmtree(directory / "predictions")  # nothing but the small file is needed
    return directory


def test_the_tables_are_those_of_seeds_that_lie_together(tmp_path):
    directories = [tmp_path / "a" / "seed0", tmp_path / "b", tmp_path / "c" / "seed2"]
    for seed, directory in enumerate(directories):
        predict(directory, seed)
    expected = tabulate(config_of(), range(3), directories)
    for seed, directory in enumerate(directories):
        train(directory, seed)
    # A workdir of compare, one of a seed, and a file; in any order.
    paths = [directories[2] / "seed_figures.json", tmp_path / "a", tmp_path / "b"]
    result, text = gather(paths, tmp_path / "gathered")
    assert result == expected
    assert result["differences"]["baseline"]["clone"]["verdict"] == "higher"
    assert json.loads((tmp_path / "gathered" / "compare.json").read_text()) == expected
    assert (tmp_path / "gathered" / "compare.md").read_text() == text


def test_a_file_is_small_and_comes_back_as_it_was(tmp_path):
    predict(tmp_path, 5)
    figures = measure_seed(config_of(), 5, tmp_path)
    write_seed(figures, tmp_path)
    found = read_seed(tmp_path / "seed_figures.json")
    for run, images in figures.right.items():
        np.testing.assert_array_equal(found.right[run], images)
    assert found._replace(right={}) == figures._replace(right={})
    assert (found.seed, found.config["seed"], found.test_images) == (5, 5, IMAGES)
    assert (tmp_path / "seed_figures.json").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": config_of(epochs=3.0)}, r"config\.epochs: 60\.0 -> 3\.0"),
        ({"config": cn.config("digits", compare={"methods": ("clone",)})}, "methods"),
        ({"labels": np.arange(IMAGES)[::-1] % 10}, "labels of their own"),
        ({"images": IMAGES - 1}, f"{IMAGES - 1} images"),
    ],
)
def test_what_was_not_trained_alike_is_refused(tmp_path, other, message):
    train(tmp_path / "seed0", 0)
    train(tmp_path / "seed1", 1, **other)
    with pytest.raises(UserError, match=message) as caught:
        gather([tmp_path], tmp_path / "gathered")
    assert "seed1" in caught.value.culprit
    assert not (tmp_path / "gathered").exists()


def test_other_places_of_the_data_and_free_keys_may_differ(tmp_path):
    train(tmp_path / "seed0", 0)
    elsewhere = config_of(data={"path": "/elsewhere"}, log_every_steps=7)
    train(tmp_path / "seed1", 1, elsewhere)
    assert gather([tmp_path], tmp_path / "gathered")[0]["seeds"] == [0, 1]


def test_a_seed_counts_once(tmp_path):
    train(tmp_path / "a", 4)
    train(tmp_path / "b", 4)
    with pytest.raises(UserError, match="the same seed as that of"):
        gather([tmp_path / "a", tmp_path / "b"], tmp_path / "gathered")


def change(content, **values):
    return json.dumps({**json.loads(content), **values})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-9], "not JSON"),
        (lambda text: "[]", "a list"),
        (lambda text: "{}", "KeyError"),
        (lambda text: change(text, seed=None, more=1), "more"),
        (lambda text: change(text, seed="0"), "the seed is '0'"),
        (lambda text: change(text, config={"of_later": 1}), "does not know"),
        (lambda text: change(text, config=3), "AttributeError"),
        (lambda text: change(text, right={"baseline": "AA=="}), "ValueError"),
        (lambda text: change(text, right={"baseline": "?"}), "Error"),
        (lambda text: change(text, metrics={}), "missing"),
        (lambda text: change(text, test_images=-1), "Error"),
        (lambda text: text.replace('"top1": ', '"top1": 1'), "not that of its images"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage, message):
    path = train(tmp_path / "seed0", 0) / "seed_figures.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        gather([tmp_path], tmp_path / "gathered")
    assert str(path) in caught.value.culprit


def test_what_is_no_seed_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match="no workdirs"):
        gather([], tmp_path)
    with pytest.raises(UserError, match="let it finish"):
        gather([tmp_path], tmp_path)
    with pytest.raises(UserError, match="no such file"):
        gather([tmp_path / "seed_figures.json"], tmp_path)


@pytest.mark.slow
def test_seeds_on_cores_of_their_own_are_gathered_by_the_program(tmp_path, tfds_dir):
    def start(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    ran = start(
        *(ROOT / "launch" / "cores.py", "--seeds=2", "--"),
        *(sys.executable, ROOT / "main.py", "--mode=compare", "--config=digits"),
        f"--config.data.path={tfds_dir}",
        "--config.compare.methods=('clone',)",
        "--config.steps=2",  # as in docs/test_commands.py: compiled once
        "--config.baseline.min_top1=0",
        "--workdir=runs/both",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "over 2 seeds on 1,497 test images" in ran.stdout
    runs = tmp_path / "runs" / "both"
    single = json.loads((runs / "task1" / "compare.json").read_text())
    both = json.loads((runs / "compare.json").read_text())
    of_seed = single["methods"]["clone"]["top1"]["per_seed"][0]
    assert both["methods"]["clone"]["top1"]["per_seed"][1] == of_seed
    refused = start(
        ROOT / "main.py", "--mode=gather", "--config=digits", runs / "task0"
    )
    assert refused.returncode == 2
    assert "--config=digits means nothing in this mode" in refused.stderr
