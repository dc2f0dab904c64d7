"""Every key of a config has a rule, and what breaks it is refused before any work."""

import copy
import math
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from clonalnet_jax.configs import default
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from clonalnet_jax.data import make_preprocess, preprocess_options
from clonalnet_jax.data.openers import OPENERS
from clonalnet_jax.data.records import Noise
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.rules import check_table
from clonalnet_jax.training.checks import RULES, check_config
from clonalnet_jax.training.experiment import open_experiment
from clonalnet_jax.training.methods import make_method
from clonalnet_jax.training.optimizers import make_optimizer, make_schedule
from clonalnet_jax.training.story import train
from clonalnet_jax.workdir.files import flatten

NAN = float("nan")


def config_with(key, value):
    """A config that lets a key hold anything, as a config file can."""
    config = copy.deepcopy(default.get_config())
    config.data.synthetic = True
    section, _, name = key.rpartition(".")
    part = config[section] if section else config
    with config.unlocked(), config.ignore_type():
        part[name] = value
    return config


def keys_of(config):
    tree = {
        key: value.to_dict() if isinstance(value, ConfigDict) else value
        for key, value in config.items()
    }
    # Options are sections of their own, whose keys the network knows.
    return set(flatten(tree)) | {"baseline.options", "clone.options"}


def test_every_key_has_a_rule_and_every_rule_a_key():
    assert keys_of(default.get_config()) == set(RULES)


def test_the_defaults_pass_and_so_does_what_a_refusal_suggests():
    check_config(default.get_config())
    for rule in RULES.values():
        assert rule.example == "ConfigDict()" or rule.accepts(rule.example)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss.label_smoothing", 1.5),
        ("seed", -1),
        ("seed", 10**20),
        ("optimizer.warmup_epochs", -1.0),
        ("optimizer.warmup_epochs", NAN),
        ("optimizer.betas", (0.9,)),
        ("optimizer.momentum", -2.0),
        ("optimizer.decay_rate", NAN),
        ("optimizer.decay_epochs", ("a",)),
        ("optimizer.clip_norm", 0.0),
        ("data.mean", (0.5, 0.5)),
        ("data.std", (0.0,)),
        ("data.std", (-1.0,)),
        ("data.crop_scale", (2.0, 3.0)),
        ("data.crop_scale", (0.5,)),
        ("data.crop_ratio", (0.0, 0.0)),
        ("data.color_jitter", (1.0,)),
        ("data.rand_augment_magnitude", 31),
        ("data.rand_augment_magnitude", -5),
        ("data.rand_augment_layers", -1),
        ("data.split_seed", -1),
        ("data.test_fraction", NAN),
        ("watchdog_minutes", -1.0),
        ("watchdog_minutes", NAN),
        ("watchdog_minutes", 1e30),
        ("baseline.min_top1", NAN),
        ("methods", ("clone", "clone")),
        ("methods", (1,)),
        ("methods", None),
        ("compare.methods", ()),
        ("epochs", math.inf),
        ("batch_size", 12.0),
        ("batch_size", True),
        ("data.flip", 1),
        ("data.path", ""),
        ("clone.options", {"num_classes": 3}),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_by_its_key(key, value):
    with pytest.raises(UserError) as caught:
        check_config(config_with(key, value))
    message = str(caught.value)
    assert message.startswith(f"config.{key}")
    for part in ("got:", "expected:", "try:"):
        assert part in message


@pytest.mark.parametrize(
    ("overrides", "culprit"),
    [
        ({"select": "best"}, "config.select"),
        ({"baseline.checkpoint": "a", "baseline.weights": "b"}, "config.baseline"),
        ({"baseline.replace_head": True}, "config.baseline.replace_head"),
        (
            {"baseline.cache": "images", "data.on_error": "skip"},
            "config.baseline.cache",
        ),
        (
            {"baseline.cache": "images", "data.mixup_alpha": 0.2},
            "config.baseline.cache",
        ),
        (
            {"baseline.cache": "images", "data.cutmix_alpha": 1.0},
            "config.baseline.cache",
        ),
        ({"data.on_device": True, "data.image_size": 32}, "config.data.on_device"),
        ({"data.resize_size": 32, "data.image_size": 64}, "config.data.resize_size"),
        ({"data.rand_augment_layers": 2}, "config.data.image_size"),
        ({"optimizer.warmup_epochs": 30.0}, "config.optimizer.warmup_epochs"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides, culprit):
    config = default.get_config()
    config.update_from_flattened_dict(overrides)
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert caught.value.culprit.startswith(culprit)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"stem_stride": 1, "width": 0}, "config.clone.options.width of resnet8"),
        ({"widht": 8}, "config.clone.options.widht of resnet8"),
        ({"width": 10**6}, "config.clone.options.width"),
        ({"dtype": "float32"}, "config.clone.options.dtype"),
    ],
)
def test_an_option_of_a_network_is_named_by_its_key(options, culprit):
    config = config_with("clone.options", options)
    config.clone.model = "resnet8"
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert caught.value.culprit == culprit
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "side", "culprit"),
    [
        ({"image_size": 8}, 8, "options.image_size of vit_small_patch16_224"),
        ({"image_size": 32}, 40, "model = vit_small_patch16_224: the images are"),
    ],
)
def test_what_a_network_says_of_the_images_is_named_by_its_key(
    options, side, culprit, tmp_path
):
    config = config_with("clone.options", options)
    config.clone.model = "vit_small_patch16_224"
    config.data.synthetic = True
    config.data.synthetic_shape = (side, side, 3)
    with pytest.raises(UserError) as caught:
        open_experiment(config, tmp_path)
    assert caught.value.culprit.startswith(f"config.clone.{culprit}")


def test_a_normalisation_of_other_channels_is_refused_with_the_data(tmp_path):
    config = config_with("data.mean", (0.5, 0.5, 0.5))
    config.data.synthetic_shape = (8, 8, 1)
    with pytest.raises(UserError, match=r"config\.data\.mean"):
        open_experiment(config, tmp_path)


def test_a_method_that_is_not_known_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'clone'"):
        make_method("clne", default.get_config())


absurd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(-3, 40),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=5),
    st.sampled_from(["clone", "sgd", "resnet8", "cosine", "bfloat16", "last"]),
    st.lists(st.floats(-1, 2), max_size=4).map(tuple),
    st.lists(st.sampled_from(["clone", "dkd", "clone_", 1]), max_size=3).map(tuple),
)


@contextmanager
def no_work():
    """Lets a test fail as soon as data are opened, an image read or a network traced.

    What `pytest.fail` raises is no `Exception`, so that no handler takes it for less.
    """

    def fail(*_, **__):
        pytest.fail("work was begun")

    with pytest.MonkeyPatch.context() as patch:
        for source in OPENERS:
            patch.setitem(OPENERS, source, fail)
        patch.setattr(Noise, "__getitem__", fail)
        for method in ("init", "init_with_output", "apply"):
            patch.setattr(nn.Module, method, fail)
        yield


@pytest.mark.parametrize("synthetic", [True, False])
def test_what_passes_the_checks_begins_the_work(synthetic, one_device, tmp_path):
    config = config_with("data.synthetic", synthetic)
    with no_work(), pytest.raises(pytest.fail.Exception, match="work was begun"):
        train(config, tmp_path)


@contextmanager
def held(config, key, value):
    """Lets a key hold a value for a while; yields what it then really holds."""
    section, _, name = key.rpartition(".")
    part = config[section] if section else config
    before = part[name]
    part[name] = value
    yield part[name]  # ml_collections turns True into 1.0 where it was a float
    del part[name]  # or else a whole number would come back as a float
    part[name] = before


@settings(max_examples=30, deadline=None, derandomize=True)
@given(value=absurd)
def test_a_value_outside_the_rule_of_any_key_is_refused_before_any_work(value):
    config, workdir = config_with("data.synthetic", True), Path("never/made")
    with no_work(), config.unlocked(), config.ignore_type():
        for key, rule in RULES.items():
            if value is None and key.endswith("options"):
                continue  # None is no value of a section: ml_collections removes it
            with held(config, key, value) as given_value:
                if rule.accepts(given_value):
                    check_table(config, RULES)
                    continue
                with pytest.raises(UserError) as caught:
                    train(config, workdir)
                assert caught.value.culprit == f"config.{key}"
    assert not workdir.exists()


def test_what_a_rule_suggests_and_every_name_that_it_knows_passes():
    config = config_with("data.synthetic", True)
    with config.unlocked(), config.ignore_type():
        for key, rule in RULES.items():
            if key.endswith("options"):
                continue
            several = isinstance(rule.example, tuple)
            names = [(name,) if several else name for name in rule.known]
            for value in (rule.example, *names):
                with held(config, key, value):
                    check_table(config, RULES)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(key=st.sampled_from(sorted(RULES)), value=absurd)
def test_whatever_a_key_holds_is_refused_or_can_be_built(key, value):
    if value is None and key.endswith("options"):
        value = 3
    config = config_with(key, value)
    try:
        check_config(config)
    except UserError:
        return
    build(config)


def build(config):
    """Everything of a run but its data and its devices."""
    optimizer = config.optimizer
    schedule = make_schedule(optimizer, num_steps=40, steps_per_epoch=2.5)
    assert jnp.isfinite(schedule(7))
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    jax.eval_shape(make_optimizer(optimizer, schedule).init, params)
    logits = jax.ShapeDtypeStruct((2, 5), "float32")
    labels = jax.ShapeDtypeStruct((2,), "int32")
    for name in (*config.methods, *config.compare.methods):
        method = make_method(name, config)
        given = logits if method.needs_baseline else None
        jax.eval_shape(method.loss_fn, logits, given, labels)
    create_model(config.clone.model, 5, **config.clone.options)
    preprocess = make_preprocess(**preprocess_options(config.data), num_classes=5)
    size = 2 * max(8, config.data.crop_padding + 1)
    channels = max(len(config.data.mean), len(config.data.std))
    if size < 256:
        batch = {
            "image": jax.ShapeDtypeStruct((2, size, size, channels), "uint8"),
            "label": labels,
            "index": labels,
            "epoch": labels,
        }
        jax.eval_shape(preprocess, batch, jax.random.key(config.seed))
        jax.eval_shape(partial(preprocess, key=None), batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        {"seed": 2_000_000_000},
        {"watchdog_minutes": 525_600.0, "ema_decay": 0.9999},
        {"loss.temperature": 1_000.0, "loss.attention_weight": -1.0},
        {"data.mixup_alpha": 1_000.0, "data.cutout": 8, "data.crop_padding": 7},
        {"optimizer.learning_rate": 1e-30, "optimizer.warmup_epochs": 0.5},
    ],
    ids=str,
)
def test_extreme_values_that_are_accepted_run(
    overrides, one_device, two_blocks, tmp_path
):
    config = default.get_config()
    config.update_from_flattened_dict(overrides)
    config.data.synthetic = True
    config.data.synthetic_shape = (8, 8, 3)
    config.data.synthetic_examples = 16
    config.batch_size, config.epochs = 8, 2.0
    for network in (config.baseline, config.clone):
        network.model = "resnet8"
        network.options = ConfigDict({"width": 4})
    assert train(config, tmp_path).keys() == {"baseline", "clone"}
