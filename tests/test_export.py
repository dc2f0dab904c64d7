"""Exported networks predict what the network in the workdir predicts."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import export as jax_export
from safetensors import safe_open

from clonalnet_jax import partition, training
from clonalnet_jax.classifier import load_classifier
from clonalnet_jax.errors import UserError
from clonalnet_jax.export import export
from clonalnet_jax.models import create_model
from clonalnet_jax.weights import from_torch, read_state_dict


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tfds_dir):
    """A workdir, its config, some images and their logits."""
    import copy

    from configs import digits

    config = copy.deepcopy(digits.get_config())
    config.data.path = tfds_dir
    config.methods = ("clone",)
    config.steps = 20
    config.baseline.min_top1 = 0.0
    workdir = tmp_path_factory.mktemp("trained")
    training.train(config, workdir)
    mesh = partition.make_mesh(jax.devices()[:1])
    classifier = load_classifier(config, workdir, "clone", mesh)
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    logits = classifier.logits(classifier.network.variables, images)
    return config, workdir, classifier, images, np.asarray(logits)


def write(trained, tmp_path, format):
    config, workdir = trained[:2]
    path = export(config, workdir, format=format, output=tmp_path / f"net.{format}")
    about = json.loads((tmp_path / f"net.{format}.json").read_text())
    assert about["class_names"] == list("0123456789")
    assert about["image_shape"] == [8, 8, 1]
    return path, about


def test_safetensors_hold_the_very_same_weights(trained, tmp_path):
    path, about = write(trained, tmp_path, "safetensors")
    variables = trained[2].network.variables
    back = from_torch(read_state_dict(path), variables, source="the export")
    jax.tree.map(np.testing.assert_array_equal, dict(back), dict(variables))
    with safe_open(path, "np") as file:
        assert json.loads(file.metadata()["class_names"]) == about["class_names"]
        assert "bn1.num_batches_tracked" in file.keys()  # noqa: SIM118 - no mapping


def test_orbax_restores_without_us(trained, tmp_path):
    path, about = write(trained, tmp_path, "orbax")
    _, _, _, images, logits = trained
    with ocp.StandardCheckpointer() as checkpointer:
        variables = checkpointer.restore(path.absolute())
    model = create_model(about["model"], 10, **about["options"])
    normalised = (images - about["mean"][0]) / about["std"][0]
    np.testing.assert_allclose(
        model.apply(variables, jnp.asarray(normalised), train=False), logits, rtol=1e-4
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_stablehlo_takes_any_batch(trained, tmp_path, batch):
    path, _ = write(trained, tmp_path, "stablehlo")
    _, _, _, images, logits = trained
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    # The test session has 8 devices and the exported network wants one.
    images = jax.device_put(images[:batch], jax.devices()[0])
    actual = jax.jit(exported.call)(images)
    np.testing.assert_allclose(actual, logits[:batch], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jax2onnx's own
def test_onnx_takes_any_batch(trained, tmp_path, batch):
    pytest.importorskip("jax2onnx", reason="needs the extra [onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    path, _ = write(trained, tmp_path, "onnx")
    _, _, _, images, logits = trained
    session = onnxruntime.InferenceSession(path)
    (name,) = [entry.name for entry in session.get_inputs()]
    (actual,) = session.run(None, {name: images[:batch]})
    np.testing.assert_allclose(actual, logits[:batch], rtol=1e-4, atol=1e-4)


def test_by_default_the_export_lies_in_the_workdir(trained):
    config, workdir = trained[:2]
    path = export(config, workdir, format="orbax", run="baseline")
    assert path == workdir / "export" / "baseline.orbax"
    with pytest.raises(UserError, match="it exists"):
        export(config, workdir, format="orbax", run="baseline")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onxx"}, "did you mean 'onnx'"),
        ({"format": "orbax", "run": "clown"}, "did you mean 'clone'"),
    ],
)
def test_a_wrong_name_is_named(trained, arguments, message):
    config, workdir = trained[:2]
    with pytest.raises(UserError, match=message):
        export(config, workdir, **arguments)
