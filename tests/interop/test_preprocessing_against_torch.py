"""Preprocessing that we read for weights, beside what their own libraries do."""

import json

import pytest
import torch_bridge as bridge

from clonalnet_jax.weights.preprocessing import preprocessing_of
from clonalnet_jax.weights.recipes import RECIPES

torch, torchvision, timm = bridge.import_torch()
OURS = sorted({n.rpartition("-")[0].removesuffix("_rwightman") for n in RECIPES})
# It has no classifier.
LEFT_OUT = "vgg16_features-amdegroot-88682ab5.pth"


@pytest.mark.parametrize("name", OURS)
def test_torchvisions_recipes_are_its_own(tmp_path, name):
    recipes = {
        recipe.url.rpartition("/")[2]: recipe
        for recipe in torchvision.models.get_model_weights(name)
    }
    recipes.pop(LEFT_OUT, None)
    known = [n for n in RECIPES if n.startswith((f"{name}-", f"{name}_rwightman-"))]
    assert {file.removesuffix(".pth") for file in recipes} == set(known)
    for file, recipe in recipes.items():
        theirs = recipe.transforms()
        found = preprocessing_of(str(tmp_path / file))
        assert [found.image_size] == theirs.crop_size
        assert [found.resize_size] == theirs.resize_size
        assert found.interpolation == theirs.interpolation.value
        assert (list(found.mean), list(found.std)) == (theirs.mean, theirs.std)


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "convnext_tiny.fb_in1k", "vit_small_patch16_224"]
)
def test_timms_config_is_resolved_as_timm_does_it(tmp_path, name):
    pretrained = timm.models.get_pretrained_cfg(name)
    content = {"architecture": name, "pretrained_cfg": pretrained.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(content))
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=pretrained.to_dict())
    )
    resize, crop, *_, normalize = theirs.transforms
    found = preprocessing_of(str(tmp_path))
    assert (found.image_size, found.image_size) == tuple(crop.size)
    assert found.resize_size == resize.size
    assert found.interpolation == resize.interpolation.value
    assert found.mean == pytest.approx(normalize.mean.tolist())
    assert found.std == pytest.approx(normalize.std.tolist())
