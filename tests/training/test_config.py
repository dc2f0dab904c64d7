"""Configs are whole, locked, and say what they are."""

import importlib
from pathlib import Path

import jax
import pytest
from clonalnet_jax.configs import default
from ml_collections import ConfigDict

from clonalnet_jax.configuration import explain
from clonalnet_jax.errors import UserError
from clonalnet_jax.training.experiment import open_experiment
from clonalnet_jax.training.story import train

NAMES = sorted(
    path.stem
    for path in Path(default.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "default")
)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_locked_and_says_its_command(name):
    module = importlib.import_module(f"clonalnet_jax.configs.{name}")
    assert f"--config=configs/{name}.py" in module.__doc__
    config = module.get_config()
    assert config.is_locked
    assert set(config.keys()) == set(default.get_config().keys())


def test_a_mistyped_key_in_a_config_file_suggests_the_nearest():
    with pytest.raises(AttributeError) as caught:
        default.get_config().batchsize = 3
    assert "did you mean 'batch_size'" in explain(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 12, "12 on 8 devices"),
        ("batch_size", 304, "at most the 300 training images"),
        ("methods", ("clne",), "did you mean 'clone'"),
        ("compute_dtype", "float23", "did you mean 'float32'"),
        ("select", "best", "holdout"),
        ("select", "lats", "did you mean 'last'"),
        ("steps", 0, "config.steps"),
        ("epochs", -1.0, "config.epochs"),
        ("loss.temperature", 0.0, "config.loss.temperature"),
        ("optimizer.learning_rate", float("nan"), "learning_rate"),
        ("optimizer.name", "sdg", "did you mean 'sgd'"),
        ("clone.model", "resnet9", "did you mean"),
        ("clone.options", ConfigDict({"wdth": 3}), "did you mean 'width'"),
    ],
)
def test_an_impossible_value_is_named_before_any_work(
    digits_config, tmp_path, key, value, message
):
    digits_config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        open_experiment(digits_config, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def dry(name):
    """As --config.data.synthetic=True --config.steps=2, but with few images."""
    config = importlib.import_module(f"clonalnet_jax.configs.{name}").get_config()
    config.data.synthetic = True
    config.data.synthetic_examples = 8
    config.steps = 2
    config.batch_size = 4
    return config


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_config_starts_on_synthetic_images(
    name, one_device, two_blocks, tmp_path
):
    config = dry(name)
    config.methods = ()  # a clone would be compiled as the baseline is
    for network in (config.baseline, config.clone):
        network.model = "resnet8"
        network.options = ConfigDict({"width": 4})
    if config.data.image_size is not None:
        config.data.image_size = 16
    assert train(config, tmp_path).keys() == {"baseline"}


@pytest.mark.parametrize("name", NAMES)
def test_every_configs_networks_take_its_images(name, one_device, tmp_path):
    experiment = open_experiment(dry(name), tmp_path)
    for network in (experiment.config.baseline, experiment.config.clone):
        model = experiment.make_network(network)
        images = jax.ShapeDtypeStruct((1, *experiment.dataset.image_shape), "float32")
        logits, _ = jax.eval_shape(
            lambda x, model=model: model.init_with_output(
                jax.random.key(0), x, train=False
            ),
            images,
        )
        assert logits.shape == (1, experiment.dataset.num_classes)
