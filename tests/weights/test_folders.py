"""Folders of weights as the Hugging Face hub has them."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.weights import find_weights, read_state_dict, read_weights, to_torch
from clonalnet_jax.weights.sources import check_architecture

SHAPE = (32, 32, 3)


def as_transformers(name):
    """A name of torchvision's ResNet as the transformers library writes it."""
    for pattern, other in (
        (r"^conv1\.", "resnet.embedder.embedder.convolution."),
        (r"^bn1\.", "resnet.embedder.embedder.normalization."),
        (r"^fc\.", "classifier.1."),
        (r"\.downsample\.0\.", ".shortcut.convolution."),
        (r"\.downsample\.1\.", ".shortcut.normalization."),
    ):
        name = re.sub(pattern, other, name)
    name = re.sub(
        r"^layer(\d)\.",
        lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.",
        name,
    )
    for ours, theirs in (("conv", "convolution"), ("bn", "normalization")):
        name = re.sub(
            rf"\.{ours}(\d)\.",
            lambda m, theirs=theirs: f".layer.{int(m[1]) - 1}.{theirs}.",
            name,
        )
    return name


@pytest.fixture(scope="module")
def network():
    """A ResNet-18, its variables, and these by the names of transformers."""
    model = create_model("resnet18", 7, width=4)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    )
    variables = jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes)
    tensors = {as_transformers(k): v for k, v in to_torch(variables).items()}
    assert not any(name.startswith(("layer", "conv", "fc")) for name in tensors)
    return model, variables, tensors


def write_shards(folder, tensors, count=3):
    folder.mkdir()
    names = [f"model-{k + 1:05}-of-{count:05}.safetensors" for k in range(count)]
    parts = {name: {} for name in names}
    for number, (key, tensor) in enumerate(tensors.items()):
        parts[names[number % count]][key] = tensor
    for name, part in parts.items():
        save_file(part, folder / name)
    where = {key: name for name, part in parts.items() for key in part}
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_one(folder, tensors):
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def read(model, weights, said=None):
    section = ConfigDict(
        {"weights": str(weights), "model": "resnet18", "weights_key": ""}
    )
    say = (lambda text: None) if said is None else said.append
    return read_weights(section, model, SHAPE, say=say)


@pytest.mark.parametrize("write", [write_one, write_shards])
def test_a_folder_of_transformers_is_read(network, tmp_path, write):
    model, variables, tensors = network
    said = []
    found = read(model, write(tmp_path / "net", tensors), said)
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(variables))
    assert "'stages.0.layers' is 'layer1'" in said[0]


def test_a_repository_of_the_hub_is_a_folder(network, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")
    folder = write_one(tmp_path / "net", network[2])
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    found = read(network[0], "hf:microsoft/resnet-18")
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(network[1]))
    assert {repository for repository, _ in asked} == {"microsoft/resnet-18"}
    assert "pytorch_model.bin" in asked[0][1]


def test_a_repository_that_is_not_there_is_named(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")

    def download(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(UserError, match=r"hf:a/b\n.*no network") as caught:
        find_weights("hf:a/b")
    assert "give their path" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"weight_map": {"a": "../other.safetensors"}}', "no name of a file beside"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "no name of a file beside"),
        ('{"weight_map": {"a": 3}}', "no name of a file beside"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "1 of 1 files are missing"),
    ],
)
def test_a_bad_index_is_named(tmp_path, content, message):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_state_dict(tmp_path)


def test_a_damaged_shard_is_named(network, tmp_path):
    folder = write_shards(tmp_path / "net", network[2])
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(UserError, match=shard.name):
        read_state_dict(folder)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    (tmp_path / "flax_model.msgpack").write_bytes(b"")
    with pytest.raises(UserError, match=r"a folder of flax_model\.msgpack"):
        read_state_dict(tmp_path)


def test_the_config_of_a_folder_is_asked_for_the_architecture(network, tmp_path):
    folder = write_one(tmp_path / "net", network[2])
    (folder / "config.json").write_text('{"architecture": "resnetaa18"}')
    with pytest.raises(UserError, match="weights of resnetaa18"):
        check_architecture(str(folder), "resnet18")
    for harmless in ('{"architecture": "resnet18"}', "[]", "{", "{}"):
        (folder / "config.json").write_text(harmless)
        check_architecture(str(folder), "resnet18")
