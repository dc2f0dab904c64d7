"""Variables as Flax programs save them come in; what is hostile does not."""

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax.serialization import msgpack_serialize, to_bytes
from flax.traverse_util import flatten_dict

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError
from clonalnet_jax.models import create_model
from clonalnet_jax.weights import read_state_dict, read_weights

SHAPE = (6, 6, 2)


class Small(nn.Module):
    """A network of somebody else."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        """Logits of images."""
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(3, (3, 3))(images))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


NAME = f"{__name__}:Small"


@pytest.fixture
def variables(rng):
    """Trained variables: none of them as they began."""
    images = np.zeros((1, *SHAPE), np.float32)
    found = Small(3).init(jax.random.key(0), images, train=False)
    return jax.tree.map(lambda x: rng.random(x.shape, np.float32) + 0.1, dict(found))


def npz(path, variables, separator):
    np.savez(path, **flatten_dict(variables, sep=separator))


def orbax(path, variables):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, variables)


def orbax_steps(path, variables):
    """A training of somebody else, with its optimiser's state."""
    with ocp.CheckpointManager(path) as manager:
        for step, scale in ((9, 0.0), (10, 1.0)):
            params = jax.tree.map(lambda x, s=scale: s * x, variables["params"])
            state = {"step": step, "opt_state": [params], **variables, "params": params}
            manager.save(step, args=ocp.args.StandardSave(state))


FORMS = {
    "orbax": orbax,
    "orbax, steps": orbax_steps,
    "npz, paths": lambda path, v: npz(path, v, "/"),
    "npz, dots": lambda path, v: npz(path, v, "."),
    "npz, compressed": lambda path, v: np.savez_compressed(
        path, **flatten_dict(v, sep=".")
    ),
    "msgpack": lambda path, v: path.write_bytes(to_bytes(v)),
    "msgpack of a state": lambda path, v: path.write_bytes(
        to_bytes({"step": 7, "opt_state": {"0": {"trace": v["params"]}}, **v})
    ),
    "msgpack in a wrapper": lambda path, v: path.write_bytes(
        to_bytes({"epoch": 7, "state": v})
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_network_of_somebody_else_is_read(tmp_path, variables, form):
    path = tmp_path / "weights.npz"  # The content decides, not the name.
    FORMS[form](path, variables)
    config = cn.config("digits", baseline={"model": NAME, "weights": str(path)})
    model = create_model(NAME, 3)
    loaded = read_weights(config.baseline, model, SHAPE)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


@pytest.mark.parametrize("form", ["npz, paths", "msgpack"])
def test_parameters_alone_are_known_as_such(tmp_path, variables, form):
    FORMS[form](tmp_path / "weights.npz", variables["params"])
    found = read_state_dict(tmp_path / "weights.npz")
    assert "params.Dense_0.kernel" in found


@pytest.mark.parametrize("form", ["npz, paths", "msgpack", "orbax"])
def test_what_is_missing_is_named(tmp_path, variables, form):
    del variables["params"]["Dense_0"]["bias"]
    path = tmp_path / "weights"
    FORMS[form](path.with_suffix(".npz"), variables)
    weights = str(path.with_suffix(".npz"))
    config = cn.config("digits", baseline={"model": NAME, "weights": weights})
    with pytest.raises(UserError, match=r"params\.Dense_0\.bias"):
        read_weights(config.baseline, create_model(NAME, 3), SHAPE)


@pytest.mark.parametrize("form", ["npz, paths", "msgpack"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.98])
def test_a_truncated_file_is_one_message(tmp_path, variables, form, share):
    path = tmp_path / "weights.npz"
    FORMS[form](path, variables)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"weights .*weights\.npz"):
        read_state_dict(path)


class Hostile:
    """Would end the test run if it were unpickled."""

    def __reduce__(self):
        return (pytest.exit, ("a pickle was run",))


def test_objects_in_an_archive_are_not_unpickled(tmp_path):
    array = np.empty(1, object)
    array[0] = Hostile()
    np.savez(tmp_path / "weights.npz", array)
    with pytest.raises(UserError, match="allow_pickle"):
        read_state_dict(tmp_path / "weights.npz")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, np.zeros(2**27, np.uint8))
    with pytest.raises(UserError, match="unpacks to"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{"a": 1}, {"params": {"a": "text"}}])
def test_msgpack_without_arrays_is_one_message(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(msgpack_serialize(content))
    with pytest.raises(UserError, match="no arrays in it"):
        read_state_dict(path)


def test_a_damaged_checkpoint_of_orbax_is_one_message(tmp_path, variables):
    orbax(tmp_path / "weights", variables)
    (tmp_path / "weights" / "_METADATA").write_text("{")
    with pytest.raises(UserError, match="weights"):
        read_state_dict(tmp_path / "weights")


@pytest.mark.slow
def test_what_is_exported_comes_back(tmp_path, trained_digits):
    _, workdir = trained_digits
    path = cn.export(workdir, run="baseline", format="orbax", output=tmp_path / "net")
    classifier = cn.load(workdir, run="baseline").network
    config = cn.config("digits", baseline={"weights": str(path)})
    loaded = read_weights(
        config.baseline, classifier.model, tuple(classifier.meta.image_shape)
    )
    jax.tree.map(np.testing.assert_array_equal, loaded, dict(classifier.variables))
