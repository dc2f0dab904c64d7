"""docs/networks.md: its networks and loss train, resume, are exported and loaded."""

import importlib
import json
import re
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import export as jax_export
from safetensors.numpy import load_file

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.training import story
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.workdir.checkpoints import read_meta

PAGE = Path(__file__).parent.parent.parent / "docs" / "networks.md"
LINEN, NNX, LOSS, SAVE = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S
)


@pytest.fixture(scope="module", autouse=True)
def nets(tmp_path_factory, one_device):
    """The module `my_nets` of the page."""
    directory = tmp_path_factory.mktemp("nets")
    (directory / "my_nets.py").write_text(LINEN + NNX + LOSS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield importlib.import_module("my_nets")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, nets, tfds_dir):
    """An NNX baseline and its Linen clone."""
    config = cn.config(
        "digits",
        steps=12,
        checkpoint_every_epochs=1.0,
        methods=("clone", nets.margin),
        data={"path": tfds_dir},
        baseline={"model": nets.NnxNet, "width": 8, "min_top1": 0.0},
        clone={"model": nets.LinenNet, "width": 4},
    )
    workdir = tmp_path_factory.mktemp("own") / "run"
    cn.train(config, workdir)
    return config, workdir


def weights(workdir):
    classifier = cn.load(workdir)
    return flatten_dict(dict(classifier.network.variables), sep=".")


@pytest.mark.slow
def test_they_train(trained):
    results = json.loads((trained[1] / "results.json").read_text())
    assert results["clone"]["num_parameters"] < results["baseline"]["num_parameters"]
    losses = [
        json.loads(line)["loss"]
        for line in (trained[1] / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_a_lost_checkpoint_is_trained_again_to_the_same_bits(trained, tmp_path):
    """With dropout: its keys are of the step."""
    config, workdir = trained
    shutil.copytree(workdir, tmp_path / "w")
    expected = weights(workdir)
    shutil.rmtree(tmp_path / "w" / "clone" / "12")
    cn.train(config, tmp_path / "w")
    found = weights(tmp_path / "w")
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_an_exported_clone_is_somebody_elses_baseline(trained, tmp_path, nets):
    config, workdir = trained
    path = cn.export(
        workdir, format="safetensors", output=tmp_path / "mine.safetensors"
    )
    tensors, expected = load_file(path), weights(workdir)
    assert set(tensors) == set(expected)
    jax.tree.map(np.testing.assert_array_equal, tensors, dict(expected))
    results = json.loads((workdir / "results.json").read_text())
    other = cn.config(
        "digits",
        steps=2,
        methods=(),
        data={"path": config.data.path},
        baseline={
            "model": nets.LinenNet,
            "width": 4,
            "weights": str(path),
            "min_top1": 0.0,
        },
    )
    found = cn.train(other, tmp_path / "w")
    assert found["baseline"]["top1"] == results["clone"]["top1"]


@pytest.mark.slow
def test_the_page_saves_what_can_be_loaded(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = cn.load(trained[1]).network.variables
    exec(SAVE, {"params": variables["params"], "batch_stats": variables["batch_stats"]})
    assert set(load_file("mine.safetensors")) == set(weights(trained[1]))


@pytest.mark.slow
def test_a_checkpoint_does_not_bring_its_code_along(trained, nets, monkeypatch):
    _, workdir = trained
    assert read_meta(workdir / "clone").model == "my_nets:LinenNet"
    monkeypatch.setattr(nets, "__file__", str(workdir / "my_nets.py"))
    with pytest.raises(UserError, match=r"my_nets:LinenNet[^~]*code lies in the"):
        read_meta(workdir / "clone")


class Changed(nn.Module):
    """A network that goes by the name of another."""

    num_classes: int
    width: int = 4

    @nn.compact
    def __call__(self, images, train):
        """Logits of images."""
        x = nn.Conv(2 * self.width, (3, 3))(images)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


@pytest.mark.slow
def test_code_that_has_changed_is_told_from_damage(trained, nets, monkeypatch):
    config, workdir = trained
    monkeypatch.setattr(nets, "LinenNet", Changed)
    for go_on in (
        lambda: cn.load(workdir),
        lambda: cn.evaluate(workdir),
        lambda: cn.train(config, workdir),
    ):
        with pytest.raises(UserError, match="code has changed") as caught:
            go_on()
        assert "params.head.kernel is new" in str(caught.value)
    monkeypatch.undo()
    assert cn.load(workdir).logits(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 10)


@pytest.mark.slow
def test_stablehlo_gives_the_same_logits(trained, tmp_path):
    workdir = trained[1]
    path = cn.export(
        workdir, run="baseline", format="stablehlo", output=tmp_path / "net"
    )
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    logits = jax_export.deserialize(bytearray(path.read_bytes())).call(images)
    expected = cn.load(workdir, run="baseline").logits(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["clone", "baseline"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jax2onnx's own
def test_onnx_gives_the_same_logits(trained, tmp_path, run):
    pytest.importorskip("jax2onnx", reason="needs the extra [onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    workdir = trained[1]
    path = cn.export(workdir, run=run, format="onnx", output=tmp_path / "net.onnx")
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    session = onnxruntime.InferenceSession(path)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    expected = cn.load(workdir, run=run).logits(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_report_says_that_there_are_no_heat_maps(trained):
    page = cn.write_report(trained[1]).read_text()
    assert "Where the clone looked" not in page
    assert "my_nets:LinenNet" in page


@pytest.mark.slow
def test_a_baseline_of_ones_own_is_given_by_its_checkpoint(trained, tmp_path):
    config, workdir = trained
    other = config.copy_and_resolve_references()
    other.baseline.checkpoint = str(workdir / "baseline")
    results = cn.train(other, tmp_path)
    before = json.loads((workdir / "results.json").read_text())
    assert results["baseline"] == before["baseline"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return images.mean((1, 2))", r"logits \(2, 1\) of images"),
        ("return nn.Dense(self.num_classes)(images)", r"logits \(2, 8, 8, 10\)"),
        ("return images @ 3", r"\(wrong_nets\w*.py, line 6\)"),
        ("return 0 * images.sum((1, 2, 3), keepdims=True)", "logits"),
    ],
)
def test_a_network_that_gives_something_else_is_refused(
    code, message, digits_config, tmp_path, monkeypatch
):
    name = f"wrong_nets{abs(hash(code))}"
    lines = [
        "import flax.linen as nn",
        "class Net(nn.Module):",
        "    num_classes: int",
        "    @nn.compact",
        "    def __call__(self, images):",
        f"        {code}",
    ]
    (tmp_path / f"{name}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    digits_config.clone.model = f"{name}:Net"
    with pytest.raises(UserError, match=message):
        story.train(digits_config, tmp_path / "w")
    assert not (tmp_path / "w" / "baseline").exists()


@pytest.mark.slow
def test_the_terms_of_a_loss_are_in_the_curves(trained):
    assert "my_nets:margin" in json.loads((trained[1] / "results.json").read_text())
    rows = [
        json.loads(line)
        for line in (trained[1] / "metrics.jsonl").read_text().splitlines()
    ]
    (row, *_) = [r for r in rows if r["run"] == "my_nets:margin"]
    assert row["loss"] == pytest.approx(row["nll"] + row["hinge"], rel=1e-5)
    assert row["hinge"] > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_nets:margni", "did you mean 'margin'"),
        ("nowhere_at_all:loss", "PYTHONPATH"),
        ("my_nets", "did you mean|choose one"),
    ],
)
def test_a_loss_that_is_not_there_is_named_before_anything_is_trained(
    name, message, digits_config, tmp_path
):
    digits_config.methods = (name,)
    with pytest.raises(UserError, match=message):
        story.train(digits_config, tmp_path / "w")
    assert not (tmp_path / "w" / "baseline").exists()


def mean(logits, baseline_logits, labels):
    return logits.mean()


def nothing(logits, baseline_logits, labels):
    return {"term": logits.mean(axis=-1)}


@pytest.mark.parametrize("function", [mean, nothing])
def test_a_loss_of_another_shape_is_refused(function, rng):
    name = f"tests.end_to_end.test_own_networks:{function.__name__}"
    method = make_method(name, None)
    logits = rng.normal(size=(4, 3))
    with pytest.raises(UserError, match=r"of shape \(4,\)"):
        method.loss_fn(logits, logits, np.zeros(4, np.int32))


def test_a_class_without_a_path_is_refused():
    class Local:
        pass

    with pytest.raises(UserError, match="which has no import path"):
        cn.config("digits", clone={"model": Local})


_SCALED = """
import flax.linen as nn

SCALE = 0.0


class Net(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images, *, train):
        flat = images.reshape(len(images), -1)
        return SCALE * nn.Dense(self.num_classes)(flat)
"""


@pytest.mark.slow
def test_what_a_network_calls_may_change_between_two_runs(tmp_path, tfds_dir):
    """As where the cell of a notebook is run again."""
    (tmp_path / "scaled.py").write_text(_SCALED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        scaled = importlib.import_module("scaled")
        config = cn.config(
            "digits",
            steps=1,
            methods=(),
            data={"path": tfds_dir},
            baseline={"model": scaled.Net, "min_top1": 0.0},
        )
        before = cn.train(config, tmp_path / "before")
        scaled.SCALE = 1.0
        after = cn.train(config, tmp_path / "after")
    assert before["baseline"]["nll"] == pytest.approx(np.log(10))
    assert after["baseline"]["nll"] != pytest.approx(np.log(10))
