"""Methods with settings of their own."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest
from clonalnet_jax.configs import default

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.checks import check_config
from clonalnet_jax.training.methods import METHODS, make_method
from clonalnet_jax.training.variants import Variant, as_variant, read_variants
from tests.losses.reference import make_example


@pytest.fixture
def config():
    return copy.deepcopy(default.get_config())


def test_a_variant_is_its_method_with_other_values(config, rng):
    line = "softer = distillation distillation.temperature=8 distillation.weight=0.5"
    config.variants = (line,)
    found = read_variants(config, METHODS)["softer"]
    assert as_variant("softer", found) == line
    clone, baseline, labels, _ = make_example(rng)
    ours = make_method("softer", config).loss_fn(clone, baseline, jnp.asarray(labels))
    assert config.distillation.temperature == 4.0
    config.distillation.temperature, config.distillation.weight = 8.0, 0.5
    other = make_method("distillation", config)
    expected = other.loss_fn(clone, baseline, jnp.asarray(labels))
    np.testing.assert_array_equal(ours["loss"], expected["loss"])


def test_a_variant_may_be_trained_and_compared(config):
    config.variants = ("softer = distillation distillation.temperature=8",)
    config.methods = config.compare.methods = ("clone", "softer")
    check_config(config)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("softer",), "config.variants"),
        (("clone = distillation distillation.weight=0.5",), "each name once"),
        (("a b = distillation distillation.weight=0.5",), "a new name"),
        (("a = distillation",), "at least one key=value"),
        (("a = destillation distillation.weight=0.5",), "distillation"),
        (("a = distillation distillation.wieght=0.5",), r"distillation\.weight"),
        (("a = distillation optimizer.learning_rate=0.5",), "choose one"),
        (("a = distillation distillation.weight=half",), "config.variants"),
        (("a = distillation distillation.weight=2",), "config.variants a"),
        (("a = dkd dkd.temperature=1", "a = dkd dkd.temperature=2"), "each name once"),
    ],
)
def test_a_bad_line_is_refused(config, lines, message):
    config.variants = lines
    with pytest.raises(UserError, match=message):
        check_config(config)


@pytest.mark.parametrize("key", ["methods", "compare"])
def test_an_unknown_method_is_refused_with_the_variants_named(config, key):
    config.variants = ("softer = distillation distillation.temperature=8",)
    if key == "methods":
        config.methods = ("softr",)
    else:
        config.compare.methods = ("softr",)
    with pytest.raises(UserError, match="softer"):
        check_config(config)


def test_a_line_is_written_as_it_is_read(config):
    variant = Variant("dist", {"dist.inter_weight": 1.5, "dist.temperature": 2})
    config.variants = (as_variant("mine", variant),)
    assert read_variants(config, METHODS) == {"mine": variant}
