"""The programs of a plan are those that a run compiles."""

import re

import jax
import jax.export
import pytest
from clonalnet_jax.configs import digits
from compiling import conditions

from clonalnet_jax.planning import programs
from clonalnet_jax.planning.hlo import read_program
from clonalnet_jax.runtime import partition
from clonalnet_jax.training.checks import PROGRAMS
from clonalnet_jax.training.experiment import open_experiment
from tests.marks import quickly


@pytest.fixture
def config():
    config = digits.get_config()
    with config.unlocked():
        config.data.synthetic = True
        config.data.synthetic_shape = (8, 8, 3)
        config.data.synthetic_examples = 64
        config.batch_size = 16
        config.baseline.options = {"width": 8}
        config.clone.options = {"width": 8}
    return config


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("evaluation", [True, False])
def test_a_batch_is_like_those_of_a_run(config, tmp_path, on_device, evaluation):
    config.data.on_device = on_device
    experiment = open_experiment(config, tmp_path)
    if evaluation:
        feed = experiment.feed(experiment.dataset.test)
        batch = next(iter(feed.once(batch_size=16)))
    else:
        batch = next(iter(experiment.train_batches(stream=0, start_step=0)))
    expected = programs.batch_shapes(experiment, 16, evaluation=evaluation)
    assert expected.keys() <= batch.keys()
    for name, shape in expected.items():
        assert (batch[name].shape, batch[name].dtype) == (shape.shape, shape.dtype)
        assert batch[name].sharding.is_equivalent_to(shape.sharding, shape.ndim)


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("name", quickly(PROGRAMS, ("clone",)))
def test_a_program_for_an_accelerator_has_nothing_of_a_cpu(
    config, tmp_path, monkeypatch, platform, name
):
    # The devices are a CPU's, since no plugin is here; the mesh says what they are.
    monkeypatch.setattr(partition, "platform", lambda mesh: platform)
    config.steps_per_call = 3
    experiment = open_experiment(config, tmp_path)
    shapes = programs.make_program(experiment, name, 16)
    text = shapes.lower(platform).as_text()
    layout = partition.layout_of(experiment.mesh)
    assert layout.statistics_in_one_pass
    assert not layout.gradients_in_parts
    assert layout.attention_in_parts == (platform == "tpu")
    assert "xla_cpu" not in text
    # Convolutions stay whole, and their steps stay a loop.
    assert not conditions(text)
    assert ("stablehlo.while" in text) == (name != "evaluation")
    assert shapes.steps == (1 if name == "evaluation" else 3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_have_the_type_that_is_asked_for(config, tmp_path, dtype):
    config.compute_dtype, config.gradient_dtype = "bfloat16", dtype
    experiment = open_experiment(config, tmp_path)
    text = programs.make_program(experiment, "clone", 16).lower("tpu").as_text()
    results = re.findall(r"stablehlo.convolution.* -> tensor<[\dx]+x(\w+)>", text)
    # The kernels' gradients: of the stem, three blocks of two and two shortcuts.
    assert results.count("f32") == (9 if dtype == "float32" else 0)
    assert results.count("bf16") > 9


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_step_is_exported_and_read_again(config, tmp_path, monkeypatch, platform):
    of_mesh = "gpu" if platform == "cuda" else platform
    monkeypatch.setattr(partition, "platform", lambda mesh: of_mesh)
    config.compute_dtype = "bfloat16"
    shapes = programs.make_program(open_experiment(config, tmp_path), "clone", 16)
    leaves, structure = jax.tree.flatten(shapes.arguments)

    @jax.jit
    def of_leaves(*leaves):
        return jax.tree.leaves(shapes.jitted(*structure.unflatten(leaves)))

    exported = jax.export.export(of_leaves, platforms=[platform])(*leaves)
    again = jax.export.deserialize(exported.serialize())
    assert again.platforms == (platform,)
    assert again.nr_devices == 8
    assert [str(x) for x in again.in_avals] == [str(x) for x in exported.in_avals]
    assert [str(x) for x in again.out_avals] == [str(x) for x in exported.out_avals]
    assert again.mlir_module() == exported.mlir_module()


def test_a_split_state_is_gathered_and_nothing_else(config, tmp_path):
    config.partition.fsdp, config.compute_dtype = True, "bfloat16"
    experiment = open_experiment(config, tmp_path)
    shapes = programs.make_program(experiment, "baseline", 16)
    found = read_program(shapes.jitted.lower(*shapes.arguments).compile())
    sizes = {one.kind: 0 for one in found.collectives}
    for one in found.collectives:
        sizes[one.kind] += one.bytes
    state = programs.place_state(experiment, config.baseline)
    split = [x for x in jax.tree.leaves(state.params) if any(x.sharding.spec)]
    gathered = 4 * sum(x.size for x in split)
    # Once for both directions, or for each.
    assert 0.5 * gathered <= sizes["all-gather"] <= 2 * gathered
    summed = 4 * sum(x.size for x in jax.tree.leaves((state.params, state.batch_stats)))
    assert sizes["all-reduce"] <= 2 * summed
    assert sizes.keys() <= {"all-gather", "all-reduce", "all-to-all"}


def test_where_classes_are_split_no_logits_travel(config, tmp_path):
    config.partition.model = 2
    config.data.synthetic_classes = classes = 4096
    experiment = open_experiment(config, tmp_path)
    shapes = programs.make_program(experiment, "clone", 64)
    found = read_program(shapes.jitted.lower(*shapes.arguments).compile())
    largest = max(one.bytes / one.number for one in found.collectives)
    state = programs.place_state(experiment, config.clone)
    head = state.params["fc"]["kernel"].size
    assert head == 32 * classes
    # Of a device's half of the classifier; its logits of 16 images would be 256 KiB.
    assert {one.kind for one in found.collectives} <= {"all-reduce", "all-gather"}
    gathered = sum(x.bytes for x in found.collectives if x.kind == "all-gather")
    assert gathered < 16 * classes
    assert largest <= 1.2 * 4 * head / 2 + 4 * classes


@pytest.mark.slow
def test_devices_that_share_classes_have_images_of_their_own(config, tmp_path):
    def operations(model):
        config.partition.model = model
        shapes = programs.make_program(open_experiment(config, tmp_path), "clone", 64)
        compiled = shapes.jitted.lower(*shapes.arguments).compile()
        return compiled.cost_analysis()["flops"]

    assert operations(2) == pytest.approx(operations(1), rel=0.02)


def test_a_clone_runs_its_baseline_and_a_cached_one_does_not(config, tmp_path):
    experiment = open_experiment(config, tmp_path)

    def convolutions(name):
        text = programs.make_program(experiment, name, 16).lower("cpu").as_text()
        return len(re.findall("stablehlo.convolution", text))

    forward = convolutions("evaluation")
    assert convolutions("clone") == convolutions("baseline") + forward
    assert convolutions("cached") == convolutions("baseline")


@pytest.mark.parametrize("fsdp", [True, False])
def test_the_bytes_of_a_device_are_those_that_lie_there(config, tmp_path, fsdp):
    config.partition.fsdp = fsdp
    experiment = open_experiment(config, tmp_path)
    state = programs.place_state(experiment, config.clone)
    placed = jax.tree.map(
        lambda leaf: jax.device_put(
            jax.numpy.zeros(leaf.shape, leaf.dtype), leaf.sharding
        ),
        state,
    )
    on_first = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(placed)
        for shard in leaf.addressable_shards
        if shard.device == jax.devices()[0]
    )
    assert programs.bytes_of_device(state) == on_first
