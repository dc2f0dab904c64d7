"""Every network: its size, its output and what it says to a wrong option."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.models import (
    count_parameters,
    create_model,
    feature_gradient,
    layers,
    model_names,
    native_size,
    swin,
)
from clonalnet_jax.models.__main__ import main
from clonalnet_jax.models.complexity import count_multiply_adds
from clonalnet_jax.models.sizes import SIZES
from tests.marks import quickly
from tests.shallow import make_shallow

# As published: torchvision and timm with 1000 classes, RepDistiller (Tian et al. 2020)
# with 100; wrn_16_1 is counted. tests/interop compares with the references live.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_v2_s": 21_458_488,
    "regnet_y_400mf": 4_344_144,
    "regnet_y_1_6gf": 11_202_430,
    "densenet121": 7_978_856,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "swin_t": 28_288_354,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch16_224": 86_567_656,
    "deit_small_patch16_224": 22_050_664,
    "deit_base_patch16_224": 86_567_656,
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet18_small": 11_220_132,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "wrn_28_10": 36_536_884,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenet_v2_half": 812_836,
    "shufflenet_v1": 949_258,
    "shufflenet_v2": 1_355_528,
}

# What the quick tests look at; the slow ones do at all networks.
ONE_OF_EACH = (
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"),
    *("regnet_y_400mf", "vgg16", "swin_t", "convnext_tiny", "vit_small_patch16_224"),
    *("resnet8", "resnet18_small", "wrn_16_1", "vgg8"),
    *("shufflenet_v1", "shufflenet_v2"),
)

# Multiply-adds in 1e9, from the metadata of torchvision's weights.
MULTIPLY_ADDS = {
    "resnet18": 1.814,
    "resnet50": 4.089,
    "resnext50_32x4d": 4.230,
    "wide_resnet50_2": 11.398,
    "mobilenet_v2": 0.301,
    "mobilenet_v3_large": 0.217,
    "mobilenet_v3_small": 0.057,
    "efficientnet_b0": 0.386,
    "regnet_y_400mf": 0.402,
    "regnet_y_1_6gf": 1.612,
    "densenet121": 2.834,
    "vgg16": 15.47,
    "vgg16_bn": 15.47,
    "swin_t": 4.491,
    "convnext_tiny": 4.456,
}

# One network of each definition, with options that make it quick.
FAMILIES = {
    "resnet18": {"width": 8},
    "resnet50": {"width": 8},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "efficientnet_b0": {},
    "regnet_y_400mf": {},
    "densenet121": {},
    "vgg16_bn": {},
    "swin_t": {},
    "convnext_tiny": {"width": 8},
    "vit_small_patch16_224": {"image_size": 32},
    "resnet8": {},
    "wrn_16_1": {},
    "vgg8": {},
    "mobilenet_v2_half": {},
    "shufflenet_v1": {},
    "shufflenet_v2": {},
}


def shapes(model, image_shape=(32, 32, 3)):
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    return jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), images
    )


def random_values(rng, leaf):
    """Weights that keep signals at their size, without compiling an initialiser."""
    if leaf.ndim == 1:
        return jnp.array(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
    fan_in = np.prod(leaf.shape[:-1])
    return jnp.array(rng.standard_normal(leaf.shape) / np.sqrt(fan_in), jnp.float32)


@pytest.mark.parametrize("name", quickly(model_names(), ONE_OF_EACH))
def test_parameter_counts_are_the_published_ones(name):
    size = native_size(name)
    num_classes = 1000 if size == 224 else 100
    logits, variables = shapes(create_model(name, num_classes), (size, size, 3))
    assert count_parameters(variables["params"]) == PARAMETERS[name]
    assert SIZES[name].parameters == PARAMETERS[name]
    assert logits.shape == (2, num_classes)


@pytest.mark.parametrize("name", quickly(MULTIPLY_ADDS, ONE_OF_EACH))
def test_multiply_adds_are_the_published_ones(name):
    count = count_multiply_adds(create_model(name, 1000), (224, 224, 3))
    assert count / 1e9 == pytest.approx(MULTIPLY_ADDS[name], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names())
def test_the_listed_multiply_adds_are_counted_ones(name):
    size = native_size(name)
    model = create_model(name, 1000 if size == 224 else 100)
    assert SIZES[name].multiply_adds == count_multiply_adds(model, (size, size, 3))


def test_the_list_names_every_network(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in model_names())
    assert SIZES.keys() == set(model_names())
    assert "4.089" in printed


@pytest.mark.parametrize("size", [8, 32, 64])
def test_one_network_takes_images_of_any_size(size):
    logits, _ = shapes(create_model("resnet8", 7), (size, size, 1))
    assert logits.shape == (2, 7)


def test_width_and_stem_are_options():
    _, narrow = shapes(create_model("resnet8", 10, width=8))
    _, wide = shapes(create_model("resnet8", 10, width=16, stem_stride=2))
    assert count_parameters(narrow["params"]) < count_parameters(wide["params"])


def test_a_small_stem_is_an_option_of_every_resnet():
    _, optional = shapes(create_model("resnet18", 10, small_stem=True))
    _, named = shapes(create_model("resnet18_small", 10))
    assert optional == named


def test_a_pooled_small_stem_halves_the_sides_and_keeps_the_variables():
    plain = create_model("resnet18_small", 10)
    pooled = create_model("resnet18_small", 10, pooled_stem=True)
    assert shapes(plain)[1] == shapes(pooled)[1]
    ratio = count_multiply_adds(plain, (32, 32, 3)) / count_multiply_adds(
        pooled, (32, 32, 3)
    )
    assert 3.5 < ratio < 4
    # The large one is pooled in any case.
    large = [create_model("resnet18", 10, pooled_stem=p) for p in (False, True)]
    assert len({count_multiply_adds(model, (64, 64, 3)) for model in large}) == 1


@pytest.mark.parametrize(
    ("block", "channels"), [("layer2_0", (8, 16, 8)), ("layer1_0", (0, 16, 0))]
)
def test_padded_shortcuts_drop_pixels_and_surround_the_channels(rng, block, channels):
    model = create_model("resnet8", 10, padded_shortcuts=True)
    images = jnp.array(rng.standard_normal((2, 9, 9, 3)), jnp.float32)
    _, variables = shapes(model, (9, 9, 3))
    assert "downsample_0" not in variables["params"][block]
    variables = jax.tree.map(partial(random_values, rng), variables)
    # With a branch that adds nothing, a block is its shortcut.
    for name in ("scale", "bias"):
        zeros = jnp.zeros_like(variables["params"][block]["bn2"][name])
        variables["params"][block]["bn2"][name] = zeros
    _, state = jax.jit(
        partial(model.apply, train=False, capture_intermediates=True, mutable=True)
    )(variables, images)
    seen = state["intermediates"]
    before = "bn1" if block == "layer1_0" else "layer1_0"
    x = jax.nn.relu(seen[before]["__call__"][0])
    left, kept, right = channels
    stride = 1 if left == 0 else 2
    expected = np.zeros((*x[:, ::stride, ::stride].shape[:3], left + kept + right))
    expected[..., left : left + kept] = x[:, ::stride, ::stride]
    np.testing.assert_array_equal(seen[block]["__call__"][0], expected)


def test_padded_shortcuts_of_bottlenecks_keep_the_network_whole():
    logits, variables = shapes(create_model("resnet50", 10, padded_shortcuts=True))
    assert logits.shape == (2, 10)
    assert "downsample_0" not in variables["params"]["layer1_0"]


def test_separable_convolutions_are_a_depthwise_and_a_pointwise_one():
    _, variables = shapes(create_model("resnet8", 10, separable=True))
    conv1 = variables["params"]["layer2_0"]["conv1"]
    assert conv1["depthwise"]["kernel"].shape == (3, 3, 1, 16)
    assert conv1["pointwise"]["kernel"].shape == (1, 1, 16, 32)


def test_separable_convolutions_are_refused_for_bottlenecks():
    with pytest.raises(UserError, match="separable"):
        shapes(create_model("resnet50", 10, separable=True))


def test_zero_init_residual_starts_each_block_as_its_shortcut():
    model = create_model("resnet8", 10, zero_init_residual=True)

    def init(key):
        images = jnp.ones((1, 8, 8, 3))
        block = model.init(key, images, train=False)["params"]["layer1_0"]
        return block["bn1"]["scale"], block["bn2"]["scale"]

    first, last = jax.jit(init)(jax.random.key(0))
    assert first.all()
    assert not last.any()


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_computes_low_and_keeps_parameters_high(name):
    options = FAMILIES[name]
    logits, variables = shapes(create_model(name, 10, dtype="bfloat16", **options))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", quickly(("resnet8", "convnext_tiny"), ("resnet8",)))
def test_bfloat16_logits_are_near_those_of_float32(name, rng):
    images = jnp.array(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    options = FAMILIES[name]
    _, variables = shapes(make_shallow(name, 10, **options))
    variables = jax.tree.map(partial(random_values, rng), variables)
    exact, rounded = (
        jax.jit(
            partial(make_shallow(name, 10, **options, dtype=dtype).apply, train=False)
        )(variables, images).astype(jnp.float32)
        for dtype in ("float32", "bfloat16")
    )
    assert jnp.abs(exact - rounded).max() < 0.05 * jnp.abs(exact).max()


@pytest.mark.parametrize("name", quickly(FAMILIES, ("resnet8", "vgg8")))
def test_features_explain_the_logits(name, rng):
    images = jnp.array(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    model = make_shallow(name, 10, **FAMILIES[name])
    _, variables = shapes(model)
    assert set(variables) <= {"params", "batch_stats"}
    variables = jax.tree.map(partial(random_values, rng), variables)
    logits, features, gradient = jax.jit(
        lambda v, x: feature_gradient(model, v, x, lambda z: z[:, 3].sum())
    )(variables, images)
    plain = jax.jit(partial(model.apply, train=False))(variables, images)
    np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-6)
    assert gradient.shape == features.shape
    assert features.shape[0] == 2
    # Of both examples: each logit depends on its own example's features.
    assert (jnp.abs(gradient).reshape(2, -1).max(axis=1) > 0).all()


@pytest.mark.parametrize("name", quickly(model_names(), FAMILIES))
def test_features_are_there_for_every_network(name):
    size = native_size(name)
    model = make_shallow(name, 10)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    _, variables = shapes(model, (size, size, 3))
    _, features, gradient = jax.eval_shape(
        lambda v, x: feature_gradient(model, v, x, lambda z: z[:, 0].sum()),
        variables,
        images,
    )
    assert features.shape == gradient.shape
    assert len(features.shape) == (3 if name.startswith(("vit", "deit")) else 4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet9", {}, "did you mean"),
        ("resnet8", {"widht": 4}, "did you mean 'width'"),
        ("resnet8", {"width": 0}, "a positive integer"),
        ("resnet8", {"stem_stride": "2"}, "a positive integer"),
        ("resnet8", {"small_stem": 1}, "True or False"),
        ("resnet50", {"bottleneck": False}, "unknown option"),
        ("resnet20", {"padded_shortcuts": "A"}, "True or False"),
        ("wrn_16_1", {"padded_shortcuts": True}, "unknown option"),
        ("mobilenet_v2", {"pooled_stem": True}, "unknown option"),
        ("vgg8", {"separable": True}, "unknown option"),
        ("vit_small_patch16_224", {"image_size": None}, "a positive integer"),
        ("mobilenet_v2", {"dropout": 1}, "a rate from 0 to below 1"),
        ("mobilenet_v2", {"dropout": True}, "a rate from 0 to below 1"),
        ("swin_t", {"stochastic_depth": -0.1}, "a rate from 0 to below 1"),
        ("densenet121", {"dropout": "0.2"}, "a rate from 0 to below 1"),
    ],
)
def test_a_wrong_name_or_option_says_what_would_be_right(name, options, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 10, **options)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_small_patch16_224", 32, "expected: 224x224"),
        ("convnext_tiny", 28, "at least 32x32"),
        ("vgg8", 7, "at least 8x8"),
        ("vgg16", 31, "at least 32x32"),
        ("densenet121", 28, "at least 29x29"),
        ("swin_t", 3, "at least 4x4"),
    ],
)
def test_images_of_a_wrong_size_are_refused(name, size, message):
    with pytest.raises(UserError, match=message):
        shapes(create_model(name, 10), (size, size, 3))


# One of each that drops, and the rates that it takes; without batch norm, which would
# depend on what else is dropped.
DROPPING = {
    "mobilenet_v2": ("dropout",),
    "mobilenet_v3_small": ("dropout",),
    "efficientnet_b0": ("dropout", "stochastic_depth"),
    "densenet121": ("dropout",),
    "vgg16": ("dropout",),
    "swin_t": ("dropout", "stochastic_depth"),
    "vit_small_patch16_224": ("dropout", "stochastic_depth"),
    "convnext_tiny": ("stochastic_depth",),
}


@pytest.mark.parametrize(
    ("name", "option"),
    quickly(
        [(name, option) for name, options in DROPPING.items() for option in options],
        [
            ("mobilenet_v2", "dropout"),
            ("vit_small_patch16_224", "stochastic_depth"),
            ("convnext_tiny", "stochastic_depth"),
        ],
    ),
)
def test_a_rate_drops_in_training_alone_and_the_key_decides_what(name, option, rng):
    size = {"image_size": 32} if name.startswith("vit") else {}
    images = jnp.array(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    plain = make_shallow(name, 10, **size)
    dropping = make_shallow(name, 10, **{option: 0.5}, **size)
    assert shapes(plain)[1] == shapes(dropping)[1]  # weights fit both
    variables = jax.tree.map(partial(random_values, rng), shapes(plain)[1])

    def evaluate(model):
        return jax.jit(partial(model.apply, train=False))(variables, images)

    def trainer(model):
        run = partial(model.apply, train=True, mutable=["batch_stats"])
        compiled = jax.jit(lambda v, x, key: run(v, x, rngs={"dropout": key})[0])
        return partial(compiled, variables, images)

    np.testing.assert_array_equal(evaluate(plain), evaluate(dropping))
    keys = [jax.random.key(seed) for seed in (0, 0, 1)]
    first, again, other = map(trainer(dropping), keys)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 * np.abs(first).max()
    undropped = trainer(plain)(keys[0])
    assert np.abs(first - undropped).max() > 1e-3 * np.abs(first).max()


def test_stochastic_depth_drops_whole_branches_of_single_examples():
    layer = layers.stochastic_depth(0.25, train=True)
    x = jnp.ones((4000, 2, 3, 4))
    y = layer.apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1, :1]).all()
    assert float((y[:, 0, 0, 0] > 0).mean()) == pytest.approx(0.75, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 37])
def test_swins_windows_keep_apart_what_a_shift_brings_together(size, rng):
    """Far from a pixel's window, and across the seam, it has no influence."""
    attention = swin.WindowAttention(1, window=7, shift=3, dtype=jnp.float32)
    images = jnp.array(rng.standard_normal((1, size, size, 4)), jnp.float32)
    variables = attention.init(jax.random.key(0), images)
    variables = jax.tree.map(partial(random_values, rng), variables)
    run = jax.jit(attention.apply)
    before, after = run(variables, images), run(variables, images.at[0, 0, 0].add(1.0))
    changed = np.abs(np.asarray(after - before)).max((0, 3)) > 1e-5
    # The first window of a shifted image has the four pixels that the shift leaves.
    expected = np.zeros((size, size), bool)
    expected[:3, :3] = True
    assert (changed <= expected).all()
    assert changed.sum() > 4
