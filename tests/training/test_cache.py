"""Training from answers that were computed once, on the digits."""

import copy
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.interruption import PreemptedError
from clonalnet_jax.training import baseline as baseline_module
from clonalnet_jax.training import cache as cache_module
from clonalnet_jax.training import story
from clonalnet_jax.training.cache import Cache
from clonalnet_jax.training.experiment import OTHERS, open_experiment
from clonalnet_jax.training.teacher import freeze
from tests.marks import quickly


@pytest.fixture(scope="module", autouse=True)
def on_one_device(one_device, two_blocks):
    """What is cached has nothing to do with devices, nor with the network."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tfds_dir):
    """A workdir with a baseline and a clone that ran beside it."""
    workdir = tmp_path_factory.mktemp("trained")
    story.train(small(tfds_dir), workdir)
    return workdir


def small(tfds_dir):
    from clonalnet_jax.configs import digits

    config = copy.deepcopy(digits.get_config())
    config.data.path = tfds_dir
    config.data.crop_padding = 1
    config.batch_size = 64
    config.steps = 12
    config.optimizer.learning_rate = 0.005  # a high one magnifies rounding
    config.methods = ("clone",)
    config.log_every_steps = 1
    config.baseline.min_top1 = 0.0
    return config


@pytest.fixture
def config(tfds_dir, trained):
    """Of a run beside the trained baseline."""
    config = small(tfds_dir)
    config.baseline.checkpoint = str(trained / "baseline")
    return config


@pytest.fixture
def make_cache(config, tmp_path):
    """A cache, filled, of the config's run; and what it said."""

    def make(workdir=tmp_path):
        experiment = open_experiment(config, workdir)
        given = baseline_module.given_baseline(experiment)
        cache = Cache(experiment, freeze(experiment, given))
        cache.fill()
        return cache

    return make


def losses(workdir, run="clone"):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [r["loss"] for r in rows if r["run"] == run and r["split"] == "train"]


def test_a_run_from_cached_views_is_the_run_beside_the_baseline(
    config, trained, tmp_path, capsys
):
    config.baseline.cache = "views"
    story.train(config, tmp_path)
    np.testing.assert_allclose(losses(tmp_path), losses(trained), atol=1e-3)
    assert "which pays for that after" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_baseline_does_not_run_once_its_answers_are_there(
    config, tmp_path, monkeypatch
):
    config.baseline.cache = "views"
    config.baseline.cache_dir = str(tmp_path / "shared")
    story.train(config, tmp_path / "first")
    monkeypatch.setattr(
        Cache, "_compute", lambda *_: pytest.fail("computed a second time")
    )
    config.methods = ("clone_without_negentropy",)
    story.train(config, tmp_path / "second")
    assert len(losses(tmp_path / "second", "clone_without_negentropy")) == 12


@pytest.mark.slow
def test_cached_images_are_the_answers_without_augmentation(
    config, make_cache, tmp_path
):
    config.baseline.cache = "images"
    cache = make_cache()
    experiment = open_experiment(config, tmp_path)
    batches = experiment.train_batches(stream=OTHERS, start_step=0, beside=cache.rows)
    network = baseline_module.given_baseline(experiment)
    logits, labels = experiment.make_predictor(network.model)(
        network.variables, experiment.dataset.train
    )
    for _, batch in zip(range(2), batches, strict=False):
        kept = cache.unpack(batch["answers"])
        index = np.asarray(batch["index"])
        np.testing.assert_array_equal(batch["label"], labels[index])
        np.testing.assert_allclose(
            jax.nn.softmax(kept.logits), jax.nn.softmax(logits[index]), atol=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_file", [1, 5])
def test_a_cache_that_was_stopped_goes_on(
    config, make_cache, tmp_path, monkeypatch, steps_per_file
):
    config.baseline.cache = "views"
    whole = make_cache(tmp_path / "whole")
    monkeypatch.setattr(
        cache_module, "_ANSWERS_PER_FILE", steps_per_file * config.batch_size
    )
    polls = iter([False] * 6 + [True] + [False] * 100)
    monkeypatch.setattr(cache_module.interruption, "poll", lambda: next(polls))
    with pytest.raises(PreemptedError):
        make_cache(tmp_path / "stopped")
    stopped = make_cache(tmp_path / "stopped")
    assert not list(stopped.directory.glob("*.tmp"))
    batch = {"index": np.zeros(config.batch_size, np.int32)}
    for step in range(config.steps):
        one, other = (c.rows(step, batch)["answers"] for c in (whole, stopped))
        np.testing.assert_array_equal(one, other)


FOREIGN = {
    "loss.temperature": (3.0, "temperature: 2.0 -> 3.0"),
    "data.flip": (True, "data.flip: False -> True"),
    "seed": (1, "seed: 0 -> 1"),
    "baseline.cache": ("images", "kind: 'views' -> 'images'"),
    "baseline.cache_top_k": (4, "top_k: 16 -> 4"),
}


@pytest.mark.parametrize(
    "change",
    quickly(FOREIGN, ("loss.temperature", "baseline.cache")),
)
def test_a_foreign_cache_is_refused(config, make_cache, tmp_path, change):
    value, named = FOREIGN[change]
    config.baseline.cache = "views"
    config.baseline.cache_dir = str(tmp_path / "shared")
    make_cache()
    with config.unlocked():
        config.update_from_flattened_dict({change: value})
    with pytest.raises(UserError, match=r"--config\.baseline\.cache_dir") as error:
        make_cache()
    assert named in str(error.value)


@pytest.mark.slow
def test_a_cache_of_other_held_out_images_is_refused(config, make_cache, tmp_path):
    # Another seed holds other images out: image 5 of the rest is another image.
    config.baseline.cache, config.data.holdout = "images", 30
    config.baseline.cache_dir = str(tmp_path / "shared")
    make_cache()
    config.seed = 1
    with pytest.raises(UserError, match=r"train: '[0-9a-f]{16}' -> "):
        make_cache()


def test_two_writers_of_one_directory_do_not_touch_each_others_files(
    config, make_cache, tmp_path, monkeypatch
):
    config.baseline.cache = "views"
    cache, seen = make_cache(), set()
    rows = [cache.rows(0, {"index": np.zeros(config.batch_size)})["answers"]]
    rename = pathlib.Path.replace

    def replace(self, target):
        seen.add(self.name)
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "replace", replace)
    for _ in range(2):
        cache._files.write(0, rows)
    assert len(seen) == 2


@pytest.mark.slow
def test_another_baseline_is_refused(config, make_cache, trained, tmp_path):
    config.baseline.cache = "views"
    config.baseline.cache_dir = str(tmp_path / "shared")
    make_cache()
    config.baseline.checkpoint = str(trained / "clone")
    with pytest.raises(UserError, match=r"baseline: '[0-9a-f]{16}' -> "):
        make_cache()


@pytest.mark.slow
def test_answers_to_other_images_are_refused(config, make_cache):
    config.baseline.cache = "views"
    files, rng = make_cache()._files, np.random.default_rng(0)
    for path, end in files.whole():
        # As if the images had been replaced: whole files, other answers.
        rows = rng.integers(256, size=(end, *files.shape), dtype=np.uint8)
        path.unlink()
        files.write(0, list(rows))
    with pytest.raises(UserError, match="in the first batch is elsewhere"):
        make_cache()


@pytest.fixture
def in_parts(config, make_cache, monkeypatch):
    """The directory of a cache of three files."""
    config.baseline.cache = "views"
    monkeypatch.setattr(cache_module, "_ANSWERS_PER_FILE", 4 * config.batch_size)
    directory = make_cache().directory
    assert len(list(directory.glob("*.array_record"))) == 3
    return directory


def all_rows(cache, config):
    batch = {"index": np.zeros(config.batch_size, np.int32)}
    return [cache.rows(step, batch)["answers"] for step in range(config.steps)]


@pytest.mark.parametrize("number", quickly((0, 1), (1,)))
def test_a_damaged_file_is_named_once_it_is_read(config, make_cache, in_parts, number):
    path = sorted(in_parts.glob("*.array_record"))[number]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"baseline cache .*{path.name}\n"):
        all_rows(make_cache(), config)


@pytest.mark.slow
def test_a_run_stops_at_a_damaged_file_and_goes_on_once_it_is_gone(
    config, in_parts, tmp_path, trained
):
    path = sorted(in_parts.glob("*.array_record"))[1]
    path.write_bytes(b"")
    with pytest.raises(UserError, match=path.name):
        story.train(config, tmp_path)
    path.unlink()
    story.train(config, tmp_path)
    np.testing.assert_allclose(losses(tmp_path), losses(trained), atol=1e-3)


@pytest.mark.slow
def test_a_file_of_another_seeds_cache_is_refused(
    config, make_cache, in_parts, tmp_path
):
    config.seed = 1
    other = make_cache(tmp_path / "other").directory
    config.seed = 0
    name = sorted(path.name for path in in_parts.glob("*.array_record"))[1]
    shutil.copy(other / name, in_parts / name)
    cache = make_cache()
    with pytest.raises(UserError, match="record 4 is damaged, or another cache's"):
        all_rows(cache, config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[1]", "a list instead of an object"),
        ("{}", "answers of something else"),
        ('{"format": {"kind": []}}', "answers of something else"),
        ("null", "null instead of an object"),
    ],
)
def test_a_manifest_of_another_kind_is_one_message(
    make_cache, in_parts, content, message
):
    (in_parts / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=rf"{message}(.*\n)*.*delete the directory"):
        make_cache()


@pytest.mark.slow
def test_a_manifest_that_was_deleted_vouches_for_no_other_answers(
    config, make_cache, in_parts
):
    (in_parts / "manifest.json").unlink()
    assert len(all_rows(make_cache(), config)) == config.steps
    (in_parts / "manifest.json").unlink()
    config.loss.temperature = 3.0
    with pytest.raises(UserError, match="another cache's"):
        make_cache()


@pytest.mark.slow
def test_too_few_probabilities_are_refused(config, make_cache):
    config.baseline.cache, config.baseline.cache_top_k = "views", 1
    with pytest.raises(UserError, match=r"config\.baseline\.cache_top_k"):
        make_cache()
