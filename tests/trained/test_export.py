"""Exported networks predict what the network in the workdir predicts."""

import json
import os
import resource
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import export as jax_export
from safetensors import safe_open

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import Classifier, load_classifier
from clonalnet_jax.trained.export import describe, export, write_onnx
from clonalnet_jax.trained.network import Network
from clonalnet_jax.weights import from_torch, read_state_dict
from clonalnet_jax.workdir.checkpoints import Meta


@pytest.fixture(scope="module")
def trained(trained_digits, one_device):
    """A workdir, its config, some images and their logits."""
    config, workdir = trained_digits
    mesh = partition.make_mesh(jax.devices()[:1])
    classifier = load_classifier(config, workdir, "clone", mesh)
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    logits = classifier.forward(classifier.network.variables, images)
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
        jax.jit(partial(model.apply, train=False))(variables, normalised),
        logits,
        rtol=1e-4,
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


FAMILIES = (
    *("resnet20", "wrn_16_1", "vgg8", "mobilenet_v2_half"),
    *("shufflenet_v2", "convnext_tiny", "vit_small_patch16_224"),
)


def untrained(name, images):
    options = {"image_size": 32} if name.startswith("vit") else {}
    model = create_model(name, 4, **options)
    init = jax.jit(partial(model.init, train=False))
    meta = Meta(name, options, list("abcd"), [32, 32, 3], "clone")
    network = Network(model, init(jax.random.key(0), images), meta)
    return Classifier(network, (0.5,), (0.25,))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jax2onnx's own
def test_a_network_that_cannot_be_converted_is_named(tmp_path):
    pytest.importorskip("jax2onnx", reason="needs the extra [onnx]")
    # Its padded average pooling; a converter that learns it joins it to FAMILIES.
    classifier = untrained("shufflenet_v1", np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(UserError, match="onnx of shufflenet_v1"):
        write_onnx(classifier, tmp_path / "net.onnx", describe(classifier))
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jax2onnx's own
def test_onnx_takes_every_other_family(name, tmp_path):
    pytest.importorskip("jax2onnx", reason="needs the extra [onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    classifier = untrained(name, images)
    write_onnx(classifier, tmp_path / "net.onnx", describe(classifier))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (actual,) = session.run(None, {session.get_inputs()[0].name: images})
    expected = jax.jit(classifier.forward)(classifier.network.variables, images)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


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


def test_an_export_has_the_permissions_of_the_umask(trained, tmp_path):
    before = os.umask(0o022)
    try:
        path, _ = write(trained, tmp_path, "safetensors")
    finally:
        os.umask(before)
    sidecar = path.with_name(path.name + ".json")
    assert {p.stat().st_mode & 0o777 for p in (path, sidecar)} == {0o644}


# Not `orbax`: once a write has failed, it leaves coroutines behind that are never
# awaited, and a later test would be blamed for them. tests/end_to_end/test_main.py does
# it in a process of its own.
@pytest.mark.parametrize("format", ["safetensors", "stablehlo"])
def test_a_disk_that_is_full_leaves_nothing_and_the_next_try_works(
    trained, tmp_path, format
):
    """A limit on the file size stands in for a full disk: it needs no privilege."""
    config, workdir = trained[:2]
    output = tmp_path / "net"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so that writing fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(UserError, match=r"--output .*net"):
            export(config, workdir, format=format, output=output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert export(config, workdir, format=format, output=output).exists()


def test_a_file_of_somebody_else_beside_the_export_is_kept(trained, tmp_path):
    config, workdir = trained[:2]
    output, sidecar = tmp_path / "net", tmp_path / "net.json"
    sidecar.write_text("mine")
    with pytest.raises(UserError, match=r"net\.json\n.*it exists"):
        export(config, workdir, format="safetensors", output=output)
    assert sidecar.read_text() == "mine"
    assert not output.exists()


def test_the_home_directory_is_where_a_tilde_says(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config, workdir = trained[:2]
    path = export(config, workdir, format="safetensors", output=Path("~/net"))
    assert path == tmp_path / "net"
    assert path.exists()
