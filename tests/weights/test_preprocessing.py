"""config.data.like_weights: images prepared as the weights' authors say."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.weights import to_torch
from clonalnet_jax.weights.preprocessing import follow_weights, preprocessing_of

# As timm/resnet18.a1_in1k and microsoft/resnet-50 have them on the hub.
TIMM = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
}
CONVNEXT = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}
CLIP = {
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": {"shortest_edge": 256},
    "rescale_factor": 0.00392156862745098,
}
VIT = {**CLIP, "do_center_crop": False, "size": {"height": 224, "width": 224}}


@pytest.fixture
def beside(tmp_path):
    """Weights with a file beside them; returns the folder."""

    def write(name, content):
        (tmp_path / name).write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", TIMM, (224, 235, "bicubic", 0.485, 0.229)),
        ("config.json", TIMM["pretrained_cfg"], (224, 235, "bicubic", 0.485, 0.229)),
        ("preprocessor_config.json", CONVNEXT, (224, 256, "bicubic", 0.485, 0.229)),
        ("preprocessor_config.json", CLIP, (224, 256, "bilinear", 0.5, 0.5)),
    ],
)
def test_what_lies_beside_weights_is_read(beside, name, content, expected):
    folder = beside(name, content)
    for weights in (folder, f"{folder}/model.safetensors"):
        found = preprocessing_of(weights)
        assert (*found[:3], found.mean[0], found.std[0]) == expected
        assert len(found.mean) == len(found.std) == 3


def test_the_networks_own_config_is_no_description(beside):
    beside("config.json", {"architectures": ["ResNet"], "hidden_sizes": [64]})
    assert preprocessing_of(beside("preprocessor_config.json", CLIP)).resize_size == 256


@pytest.mark.parametrize(
    ("file", "resize"), [("resnet50-0676ba61.pth", 256), ("resnet50-11ad3fa6.pth", 232)]
)
def test_torchvisions_files_are_known_by_name(tmp_path, monkeypatch, file, resize):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / file
    path.parent.mkdir(parents=True)
    path.touch()
    for weights in ("torchvision:resnet50", str(path)):
        found = preprocessing_of(weights)
        assert (found.image_size, found.resize_size) == (224, resize)


def test_the_hub_is_asked_for_the_file(tmp_path, monkeypatch, beside):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")
    folder = beside("config.json", TIMM)
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return f"{folder}/{name}"

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert preprocessing_of("timm:resnet18.a1_in1k").resize_size == 235
    assert ("timm/resnet18.a1_in1k", "config.json") in asked


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "", "neither it nor a file beside it"),
        ("config.json", "{", "neither it nor a file beside it"),
        ("config.json", [], "neither it nor a file beside it"),
        ("preprocessor_config.json", VIT, "squeezed"),
        ("preprocessor_config.json", {**CLIP, "do_rescale": False}, "do_rescale"),
        ("preprocessor_config.json", {**CLIP, "rescale_factor": 1}, "rescale_factor"),
        ("preprocessor_config.json", {**CLIP, "resample": 0}, "another resample"),
        ("preprocessor_config.json", {**CLIP, "image_mean": 3}, "TypeError"),
        ("config.json", {**TIMM["pretrained_cfg"], "crop_mode": "squash"}, "squash"),
        ("config.json", {**TIMM["pretrained_cfg"], "crop_pct": 1.2}, "a crop of"),
        ("config.json", {**TIMM["pretrained_cfg"], "crop_pct": 0}, "ZeroDivision"),
        ("config.json", {**TIMM["pretrained_cfg"], "input_size": [3, 8]}, "ValueError"),
        ("config.json", {**TIMM["pretrained_cfg"], "input_size": [3, 8, 9]}, "square"),
    ],
)
def test_what_is_not_known_or_cannot_be_done_is_refused(beside, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        preprocessing_of(beside(name, content))
    assert "config.data.image_size" in str(caught.value)


def config(folder, **data):
    return cn.config(
        "default", baseline={"weights": folder}, data={"like_weights": True, **data}
    )


def test_the_config_gets_the_values_and_says_so(beside):
    said = []
    found = follow_weights(config(beside("config.json", TIMM)), said.append)
    assert (found.data.image_size, found.data.resize_size) == (224, 235)
    assert found.data.interpolation == "bicubic"
    assert not found.data.like_weights  # so that a second start asks nobody
    assert "resize_size 235" in said[0]
    assert follow_weights(found, said.append) is found


def test_the_same_value_in_the_config_is_none_to_argue_about(beside):
    folder = beside("config.json", TIMM)
    assert follow_weights(config(folder, image_size=224), print).data.image_size == 224


@pytest.mark.parametrize(
    ("key", "value"), [("mean", (0.4, 0.4, 0.4)), ("image_size", 288)]
)
def test_another_value_in_the_config_is_refused(beside, key, value):
    with pytest.raises(UserError, match=f"--config.data.{key}=") as caught:
        follow_weights(config(beside("config.json", TIMM), **{key: value}), print)
    assert caught.value.culprit == f"config.data.{key}"


def test_without_weights_it_is_refused():
    with pytest.raises(UserError, match=r"without config\.baseline\.weights"):
        follow_weights(cn.config("default", data={"like_weights": True}), print)


@pytest.mark.slow
def test_a_run_keeps_the_values(tmp_path, tfds_dir, one_device, two_blocks):
    model = cn.create_model("resnet8", 10, width=4)
    init = jax.jit(partial(model.init, train=False))
    variables = init(jax.random.key(0), np.zeros((1, 8, 8, 1)))
    save_file(to_torch(variables), tmp_path / "model.safetensors")
    content = {"input_size": [1, 8, 8], "mean": [0.25], "std": [0.5], "crop_pct": 1}
    (tmp_path / "config.json").write_text(json.dumps(content))
    changes = {
        "steps": 2,
        "methods": ("cross_entropy",),
        "data": {
            "path": tfds_dir,
            "like_weights": True,
            "mean": (0.25,),
            "std": (0.5,),
        },
        "baseline": {
            "model": "resnet8",
            "width": 4,
            "weights": str(tmp_path / "model.safetensors"),
            "min_top1": 0.0,
        },
    }
    first = cn.train(cn.config("digits", **changes), tmp_path / "w")
    saved = json.loads((tmp_path / "w" / "config.json").read_text())["data"]
    assert (saved["image_size"], saved["resize_size"]) == (8, 8)
    assert saved["interpolation"] == "bicubic"
    (tmp_path / "config.json").unlink()
    assert cn.evaluate(tmp_path / "w")["baseline"]["nll"] == first["baseline"]["nll"]
