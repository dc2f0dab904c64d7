"""A baseline that is any function: exported, kept, asked, and never trained."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
from flax import nnx

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.models.exported import export_function, read_exported

pytestmark = pytest.mark.usefixtures("one_device", "two_blocks")

SHAPE = (4, 4, 1)
VARIABLES = {
    "params": {
        "kernel": np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32),
        "low": jnp.ones(3, jnp.bfloat16),
    },
    "seen": {"count": np.int32(2), "key": jax.random.key(1)},
}


def answer(variables, images):
    """Uses every leaf: a key, an integer, a bfloat16 and a float32 array."""
    noise = jax.random.uniform(variables["seen"]["key"], (3,))
    flat = images.reshape(images.shape[0], -1) * variables["seen"]["count"]
    return flat @ variables["params"]["kernel"] + variables["params"]["low"] + noise


def images_of(number, seed=0):
    return jax.random.normal(jax.random.key(seed), (number, *SHAPE))


class Net(nnx.Module):
    """With batch norm and dropout."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, images):
        """Logits of images."""
        x = self.dropout(self.norm(images)).reshape(images.shape[0], -1)
        return self.head(x)


def nnx_pair():
    network = Net(nnx.Rngs(0))
    network.eval()
    graph, state = nnx.split(network)
    return (lambda state, images: nnx.merge(graph, state)(images)), state


@pytest.fixture
def kept(tmp_path):
    """The name that a function of variables is kept under."""

    def keep(function, variables):
        (tmp_path / "f").write_bytes(export_function(function, variables, SHAPE))
        return f"frozen:{tmp_path / 'f'}"

    return keep


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize(
    ("function", "variables"),
    [
        (answer, VARIABLES),
        (jax.jit(answer), VARIABLES),
        (lambda images: answer(VARIABLES, images), None),
        (lambda leaves, images: answer(VARIABLES, images) + leaves[0], [1.5]),
        nnx_pair(),
    ],
    ids=["function", "jitted", "closure", "list", "nnx"],
)
def test_a_file_answers_as_its_function(kept, function, variables, number):
    images = images_of(number)
    network = read_exported(kept(function, variables), 3)
    given = () if variables is None else (variables,)
    expected = function(*given, images)
    found = jax.jit(network.apply)(network.init(None), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_it_answers_on_many_devices(kept):
    network = read_exported(kept(answer, VARIABLES), 3)
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    split = jax.NamedSharding(mesh, jax.P("data"))
    whole = jax.NamedSharding(mesh, jax.P())
    images = images_of(2 * jax.device_count())
    found = jax.jit(network.apply)(
        jax.device_put(network.init(None), whole), jax.device_put(images, split)
    )
    assert len(found.sharding.device_set) == jax.device_count() == 8
    np.testing.assert_allclose(found, answer(VARIABLES, images), rtol=1e-5, atol=1e-5)


def test_flax_tells_parameters_from_the_rest(kept):
    variables = read_exported(kept(answer, VARIABLES), 3).variables
    dtypes = {
        name: [x.dtype for x in part.values()] for name, part in variables.items()
    }
    assert dtypes == {
        "params": [jnp.float32, jnp.bfloat16],
        "batch_stats": [jnp.int32, jnp.uint32],
    }


def fails(variables, images):
    """Raises what its own library would."""
    raise RuntimeError(f"{variables} cannot")


@pytest.mark.parametrize(
    ("function", "variables", "message"),
    [
        (fails, None, "raises TypeError: .*missing 1 required"),
        (fails, (), "raises RuntimeError: .* cannot"),
        (lambda x: x, None, r"result has the shape \(batch, 4, 4, 1\)"),
        (lambda x: x.sum((0, 1, 2))[None].repeat(3, 1), None, r"the shape \(1, 3\)"),
        (lambda x: (x[:, 0, 0], x[:, 0, 0]), None, "the shape"),
        (lambda x: x.reshape(5, 16), None, r"result has the shape \(5, 16\)"),
        (lambda x: x[:2] if len(x) > 2 else x, None, r"\[batch, 4, 4, 1\] it raises"),
        (lambda v, x: x, {"name": "text"}, "variables hold a str"),
        (
            lambda x: jax.pure_callback(np.sin, x[:, 0, 0], x[:, 0, 0]),
            None,
            "raises .*[cC]allback",
        ),
    ],
)
def test_what_is_no_classifier_is_refused(function, variables, message):
    with pytest.raises(UserError, match=re.compile(message)) as raised:
        export_function(function, variables, SHAPE)
    assert raised.value.culprit == "the function of cn.frozen"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "Error"),
        (lambda content: b"", "Error"),
        (lambda content: safetensors.flax.save({"a": jnp.ones(1)}), "says of itself"),
        (
            lambda content: safetensors.flax.save(
                {"program": jnp.ones(9, jnp.uint8)},
                {"format": "clonalnet frozen function", "version": "1"},
            ),
            "a file that cn.frozen",
        ),
    ],
)
def test_what_is_no_such_file_is_refused(kept, damage, message):
    path = kept(answer, VARIABLES).removeprefix("frozen:")
    with open(path, "r+b") as file:
        content = damage(file.read())
        file.seek(0)
        file.truncate()
        file.write(content)
    with pytest.raises(UserError, match=message) as raised:
        read_exported(f"frozen:{path}", 3)
    assert path in raised.value.culprit


def test_a_file_that_calls_python_is_refused(tmp_path):
    """JAX writes none; somebody may."""
    target = "xla_ffi_python_cpu_callback"
    call = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    program = jax.export.export(
        jax.jit(lambda x: call(x, index=np.uint64(0))),
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(target)],
    )(jnp.ones((1, 3)))
    tensors = {"program": np.frombuffer(program.serialize(), np.uint8)}
    about = {"format": "clonalnet frozen function", "version": "1"}
    (tmp_path / "f").write_bytes(safetensors.flax.save(tensors, about))
    with pytest.raises(UserError, match="calls back into Python"):
        read_exported(f"frozen:{tmp_path / 'f'}", 3)


def test_other_classes_are_refused(kept):
    with pytest.raises(UserError, match="3 logits"):
        read_exported(kept(answer, VARIABLES), 4)


@pytest.fixture(scope="module")
def arrays():
    """Images whose brightest quarter is their class."""
    rng = np.random.default_rng(0)

    def draw(number):
        labels = rng.integers(4, size=number)
        images = rng.integers(60, size=(number, 8, 8), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[row : row + 4, column : column + 4] += 60
        return images, labels

    return cn.from_arrays(train=draw(160), test=draw(64))


def quarters(variables, images):
    """The mean of each quarter of an image, times a gain."""
    means = images.reshape(images.shape[0], 2, 4, 2, 4).mean((2, 4))
    return variables["gain"] * means.reshape(images.shape[0], 4)


def config(**changes):
    return cn.config(
        "default",
        **{
            "steps": 4,
            "batch_size": 16,
            "data": {"mean": (0.5,), "std": (0.5,), "image_size": 8},
            "clone": {"model": "resnet8", "width": 4},
            "baseline": {"width": 8},
            **changes,
        },
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, arrays, one_device, two_blocks):
    workdir = tmp_path_factory.mktemp("frozen") / "w"
    baseline = cn.frozen(quarters, {"gain": 20.0})
    return workdir, cn.train(config(), workdir, data=arrays, baseline=baseline)


def test_a_clone_learns_from_it(trained):
    _, results = trained
    assert results["baseline"]["top1"] == 100
    assert results["baseline"]["num_parameters"] == 1
    assert set(results) == {"baseline", "clone"}


def test_it_predicts_without_its_code(trained, arrays):
    classifier = cn.load(trained[0], "baseline")
    probabilities = classifier.predict(arrays.test.images)
    np.testing.assert_array_equal(probabilities.argmax(1), arrays.test.classes)


def test_it_is_evaluated_and_resumed(trained, arrays):
    workdir, results = trained
    assert cn.evaluate(workdir)["baseline"]["nll"] == results["baseline"]["nll"]
    again = cn.train(
        config(), workdir, data=arrays, baseline=cn.frozen(quarters, {"gain": 20.0})
    )
    assert again["clone"] == results["clone"]


def test_another_one_is_refused(trained, arrays):
    with pytest.raises(UserError, match="the same function and variables"):
        cn.train(
            config(),
            trained[0],
            data=arrays,
            baseline=cn.frozen(quarters, {"gain": 30.0}),
        )


@pytest.mark.slow
def test_its_page_is_written(trained):
    page = cn.write_report(trained[0])
    assert "baseline" in page.read_text()


def test_it_is_exported_as_a_program_and_not_as_tensors(trained, tmp_path):
    written = cn.export(
        trained[0], "baseline", format="stablehlo", output=tmp_path / "b.stablehlo"
    )
    assert written.exists()
    with pytest.raises(UserError, match="only its file describes"):
        cn.export(trained[0], "baseline", output=tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clone": {"model": "frozen:/a"}}, "cannot be trained"),
        ({"baseline": {"model": "frozen:/nowhere"}}, "/nowhere"),
        ({"baseline": {"model": "frozen:/a", "width": 8}}, "has none"),
        ({"baseline": {"model": "frozen:/a", "weights": "b"}}, "one of them"),
        ({"baseline": {"model": "frozen:/a", "checkpoint": "b"}}, "one of them"),
    ],
)
def test_a_config_that_cannot_be_is_refused(arrays, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        cn.train(cn.config("digits", **changes), tmp_path / "w", data=arrays)


def test_what_is_no_frozen_function_is_refused(arrays, tmp_path):
    with pytest.raises(UserError, match=r"cn\.frozen"):
        cn.train(config(), tmp_path / "w", data=arrays, baseline=quarters)


@pytest.mark.slow
def test_every_seed_of_a_comparison_has_the_same(arrays, tmp_path):
    table = cn.compare(
        config(compare={"seeds": 2, "methods": ("cross_entropy", "clone")}, steps=2),
        tmp_path / "w",
        data=arrays,
        baseline=cn.frozen(quarters, {"gain": 20.0}),
    )
    assert table["methods"]["baseline"]["top1"]["per_seed"] == [100.0, 100.0]
