"""A caller who has set a mesh, or forbidden what JAX does unasked."""

import contextlib
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

import clonalnet_jax as cn
from clonalnet_jax.training import story
from tests.marks import quickly

MESHES = ((AxisType.Explicit, 4), (AxisType.Explicit, 1), (AxisType.Auto, 4))


@pytest.mark.slow
def test_a_workdir_does_not_see_a_mesh(digits_config, one_device, two_blocks, tmp_path):
    config, workdir = digits_config, tmp_path / "run"
    config.steps = 4
    story.train(config, workdir)
    images = np.zeros((3, 8, 8, 1), np.uint8)
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "image.png")
    expected = cn.load(workdir).logits(images)
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        config.steps = 6
        results = cn.train(config, workdir, force_config=True)
        assert cn.evaluate(workdir).keys() == results.keys()
        clone = cn.load(workdir)
        logits, probabilities = clone.logits(images), clone.predict(images)
        (prediction,) = cn.predict(workdir, tmp_path / "image.png")
        assert cn.export(workdir, output=tmp_path / "clone.safetensors").exists()
        assert cn.write_report(workdir).exists()
        assert jax.sharding.get_mesh() == mesh
    assert not np.allclose(logits, expected)  # two steps more
    np.testing.assert_allclose(clone.logits(images), logits, rtol=1e-6)
    assert prediction.top[0][1] == pytest.approx(probabilities[0].max(), rel=1e-4)


@pytest.mark.parametrize(("kind", "devices"), quickly(MESHES, MESHES[:1]))
def test_arrays_on_a_mesh_are_data_and_a_baseline(
    kind, devices, digits_config, one_device, two_blocks, tmp_path
):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(64, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(64) % 10
    config = digits_config
    config.steps, config.batch_size = 2, 16
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(kind,))

    def function(variables, images):
        kernel, keys = variables
        return images.reshape(-1, 64) @ kernel + jax.random.normal(keys[1])

    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("x"))
        arrays = jax.device_put((images, labels), split)
        kernel = jax.device_put(jnp.ones((64, 10)), split)
        keys = jax.device_put(jax.random.split(jax.random.key(0), 4), split)
        results = cn.train(
            config,
            tmp_path,
            data=cn.from_arrays(train=arrays, test=arrays),
            baseline=cn.frozen(function, (kernel, keys)),
        )
        assert results.clone.predict(arrays[0]).shape == (64, 10)
        assert jax.sharding.get_mesh() == mesh


@pytest.mark.slow
def test_promotions_and_transfers_may_be_forbidden(
    digits_config, one_device, two_blocks, tmp_path
):
    digits_config.steps = 2
    ones = jnp.ones(1, jnp.int32), jnp.ones(1)
    with contextlib.ExitStack() as context:
        context.enter_context(jax.numpy_rank_promotion("raise"))
        context.enter_context(jax.numpy_dtype_promotion("strict"))
        context.enter_context(jax.transfer_guard("disallow"))
        results = cn.train(digits_config, tmp_path)
        assert results.clone.predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)
        with pytest.raises(ValueError, match="promotion"):
            _ = operator.add(*ones)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
            jnp.add(ones[1], 1)
