"""One temperature of a network, folded into its classifier."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import clonalnet_jax as cn
from clonalnet_jax.analysis.metrics import measure_logits
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model, eval_logits
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.calibrated import fold_temperature
from clonalnet_jax.trained.export import export
from clonalnet_jax.trained.network import Network, load_network
from clonalnet_jax.training import story
from clonalnet_jax.workdir.checkpoints import Meta
from clonalnet_jax.workdir.directory import read_results
from clonalnet_jax.workdir.saved_logits import read_logits
from tests.marks import quickly


class Capped(nn.Module):
    """Something follows the last dense layer."""

    @nn.compact
    def __call__(self, images, train):
        """Logits."""
        return 3 * jnp.tanh(nn.Dense(5)(images.reshape(len(images), -1)))


def network_of(model, *, seed=0):
    shape = (32, 32, 3)
    # One program, not one an operation.
    init = jax.jit(partial(model.init, train=False))
    variables = init(jax.random.key(seed), jnp.zeros((1, *shape)))
    names = [str(k) for k in range(5)]
    meta = Meta("", {}, names, list(shape), "clone", 1, "")
    return Network(model, variables, meta)


@pytest.mark.parametrize(
    "name", quickly(("resnet8", "mobilenet_v2", "convnext_tiny"), ("resnet8",))
)
def test_logits_are_divided_and_answers_stay(name, rng):
    network = network_of(create_model(name, 5))
    images = jnp.asarray(rng.normal(size=(16, 32, 32, 3)), jnp.float32)
    folded = fold_temperature(network, 0.37)
    before, after = (
        np.asarray(jax.jit(partial(eval_logits, n.model))(n.variables, images))
        for n in (network, folded)
    )
    np.testing.assert_allclose(after, before / 0.37, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))


def test_a_network_that_goes_on_after_its_dense_layer_is_refused():
    with pytest.raises(UserError, match=r"config\.calibrate"):
        fold_temperature(network_of(Capped()), 2.0)


class Net(nnx.Module):
    """Its classifier is no layer of Flax Linen."""

    def __init__(self, *, num_classes, rngs):
        self.hidden = nnx.Linear(3072, 5, rngs=rngs)
        self.head = nnx.Linear(5, num_classes, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(num_classes))

    def __call__(self, images):
        """Logits."""
        return self.head(jax.nn.relu(self.hidden(images.reshape(len(images), -1))))


def test_the_classifier_of_nnx_is_found(rng):
    network = network_of(create_model("tests.trained.test_calibrated:Net", 5))
    images = jnp.asarray(rng.normal(size=(4, 32, 32, 3)), jnp.float32)
    folded = fold_temperature(network, 0.5)
    before, after = (
        np.asarray(jax.jit(partial(eval_logits, n.model))(n.variables, images))
        for n in (network, folded)
    )
    np.testing.assert_allclose(after, 2 * before, rtol=1e-5)


@pytest.fixture
def calibrated(digits_config, tmp_path, one_device, two_blocks):
    digits_config.data.holdout, digits_config.steps = 60.0, 20
    story.train(digits_config, tmp_path / "w")
    return digits_config, tmp_path / "w"


def test_the_network_that_is_used_is_the_one_that_was_measured(calibrated):
    config, workdir = calibrated
    row, saved = read_results(workdir)["clone"], read_logits(workdir, "clone")
    assert row["temperature"] != pytest.approx(1.0)
    assert {k: row[k] for k in ("nll", "ece")} == {
        k: measure_logits(saved.logits, saved.labels)[k] for k in ("nll", "ece")
    }
    classifier = cn.load(workdir)
    raw = load_network(workdir / "clone", partition.make_mesh(jax.devices()[:1]))
    dataset = story.open_experiment(config, workdir).dataset
    images = np.stack([dataset.test[k].image for k in range(len(dataset.test))])
    logits = classifier.logits(images)
    np.testing.assert_allclose(logits, saved.logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(-1), saved.logits.argmax(-1))
    # As it was trained: the same answers, other probabilities.
    plain = classifier.__class__(raw, classifier.mean, classifier.std)
    trained = plain.logits(images)
    np.testing.assert_array_equal(trained.argmax(-1), saved.logits.argmax(-1))
    before = measure_logits(trained, saved.labels)
    assert before["top1"] == row["top1"]
    assert before["nll"] == pytest.approx(row["nll_uncalibrated"], rel=1e-4)
    path = export(config, workdir, format="safetensors")
    kernel = load_file(path)["fc.weight"]
    np.testing.assert_allclose(
        kernel * row["temperature"],
        np.asarray(raw.variables["params"]["fc"]["kernel"]).T,
        rtol=1e-5,
    )
    assert story.evaluate(config, workdir)["clone"] == row


@pytest.mark.parametrize(
    ("holdout", "calibrate", "said"),
    quickly(
        (
            (0.0, True, "no images are held out"),
            (10.0, True, "10 held-out images"),
            (60.0, False, None),
        ),
        ((10.0, True, "10 held-out images"),),
    ),
)
def test_where_nothing_can_be_fitted_it_says_so(
    digits_config, tmp_path, capsys, one_device, two_blocks, holdout, calibrate, said
):
    digits_config.data.holdout, digits_config.calibrate = holdout, calibrate
    digits_config.steps = 2
    results = story.train(digits_config, tmp_path / "w")
    assert "temperature" not in results["clone"]
    out = " ".join(capsys.readouterr().out.split())
    assert said is None or said in out
    assert "Temperatures" not in out
