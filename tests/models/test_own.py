"""Networks that somebody else has written: what they are called with, and refusals."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import (
    count_parameters,
    create_model,
    logits_and_features,
    marks_features,
)
from clonalnet_jax.models.features import TAPPED
from clonalnet_jax.models.import_paths import is_own
from tests.models import strangers

IMAGES = np.random.default_rng(0).standard_normal((4, 6, 6, 2)).astype(np.float32)


def make(name, **options):
    return create_model(f"tests.models.strangers:{name}", 3, **options)


def step(model, variables, key=0):
    """Logits and statistics of a training step."""
    return model.apply(
        variables,
        IMAGES,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(key)},
    )


NAMES = [
    *("Linen", "Deterministic", "Plain", "Counting"),
    *("Nnx", "make_linen", "make_nnx"),
]


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_what_is_asked_of_ours(name):
    model = make(name)
    logits, variables = model.init_with_output(jax.random.key(0), IMAGES, train=False)
    assert logits.shape == (4, 3)
    assert set(variables) <= {"params", "batch_stats"}
    assert count_parameters(variables["params"]) > 0
    again = model.apply(variables, IMAGES, train=False)
    np.testing.assert_allclose(logits, again, rtol=1e-6)
    trained, changed = step(model, variables)
    assert trained.shape == (4, 3)
    before = jax.tree.structure(variables.get("batch_stats", {}))
    assert jax.tree.structure(changed["batch_stats"]) == before


@pytest.mark.parametrize("name", ["Linen", "Deterministic", "Nnx"])
def test_only_training_drops_and_the_key_decides_what(name):
    model = make(name, **({} if name == "Deterministic" else {"width": 32}))
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    one, same, other = (step(model, variables, key)[0] for key in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("name", ["Noisy", "NoisyNnx"])
def test_every_random_stream_gets_a_key_of_the_step(name):
    model = make(name)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    one, same, other = (step(model, variables, key)[0] for key in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("name", ["Linen", "Nnx", "Counting"])
def test_a_step_moves_the_statistics_and_an_evaluation_uses_them(name):
    model = make(name)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    _, changed = step(model, variables)
    moved = model.apply({**variables, **changed}, IMAGES, train=False)
    assert np.abs(moved - model.apply(variables, IMAGES, train=False)).max() > 1e-4


def test_a_collection_of_its_own_is_carried_along():
    model = make("Counting")
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    for count in (1, 2):
        _, changed = step(model, variables)
        variables = {**variables, **changed}
        collections = variables["batch_stats"]["collections"]
        assert int(collections["counts"]["seen"]) == count
        assert "BatchNorm_0" in collections["batch_stats"]


def test_it_computes_in_the_dtype_that_is_asked_if_it_takes_one():
    model = make("Linen")
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    low = model.clone(dtype=jnp.bfloat16)
    assert low.apply(variables, IMAGES, train=False).dtype == jnp.bfloat16
    assert make("Nnx").clone(dtype=jnp.bfloat16).module == make("Nnx").module


def test_a_class_of_a_notebooks_cell_is_found_again(monkeypatch):
    main = sys.modules["__main__"]
    cell = type("Cell", (strangers.Linen,), {"__module__": "__main__"})
    monkeypatch.setattr(main, "Cell", cell, raising=False)
    changed = cn.config("digits", clone={"model": cell, "width": 2}).clone
    model = create_model(changed.model, 3, **changed.options)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    assert variables["params"]["Conv_0"]["bias"].shape == (2,)


def test_grad_cam_needs_features_that_are_marked():
    model = make("Linen")
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    assert marks_features(model, variables, IMAGES)
    logits, features = logits_and_features(model, variables, IMAGES)
    assert features.shape == (4, 6, 6, 4)
    added = {**variables, "perturbations": {TAPPED: jnp.ones_like(features)}}
    assert np.abs(logits_and_features(model, added, IMAGES)[0] - logits).max() > 0.01
    other = make("Nnx")
    variables = other.init(jax.random.key(0), IMAGES, train=False)
    assert not marks_features(other, variables, IMAGES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere_at_all:Net", {}, "PYTHONPATH"),
        ("tests.models.strangers:Lienn", {}, "did you mean 'Linen'"),
        ("tests.models.strangers:NOT_CALLABLE", {}, "tuple"),
        ("tests.models.strangers:Linen", {"widht": 3}, "did you mean 'width'"),
        ("tests.models.strangers:no_network", {}, "makes a dict"),
        ("tests.models.strangers:broken", {}, r"on purpose \(strangers.py, line \d+\)"),
        ("tests.models.strangers:needs_a_width", {}, "no value for width"),
        ("tests.models.strangers:leaves", {}, "SystemExit: 3"),
        ("tests.models.strangers:takes_anything", {}, "takes no num_classes"),
        ("__main__:Cell", {}, "run the cell that defines Cell first"),
        ("os:system", {"command": "exit 1"}, "takes no num_classes"),
        ("subprocess:Popen", {"args": "true", "shell": True}, "takes no num_classes"),
        ("builtins:exec", {}, "builtins:exec"),
    ],
)
def test_a_mistake_is_one_message(name, options, message):
    with pytest.raises(UserError, match=message):
        create_model(name, 3, **options)


def test_a_module_that_ends_the_program_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="SystemExit: 0"):
        create_model("leaving:Net", 3)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("resnet20", False),
        ("a.b:C", True),
        ("a:b.c", True),
        ("a/b:C", False),
        ("a:C()", False),
        (":C", False),
        ("os.system", False),
    ],
)
def test_a_name_with_a_colon_is_an_import_path(name, own):
    assert is_own(name) is own
