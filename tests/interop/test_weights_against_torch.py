"""Weights to PyTorch and back, through the files that people have."""

import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import torch_bridge as bridge
from clonalnet_jax.configs import default

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.trained.classifier import load_classifier
from clonalnet_jax.trained.export import export
from clonalnet_jax.training import story
from clonalnet_jax.weights import read_state_dict

torch, torchvision, _ = bridge.import_torch()
sys.path.append(str(Path(__file__).parents[1] / "weights"))
from written_by_torch import save_legacy, save_zip  # noqa: E402 - only behind the path

SIZE, CLASSES = 48, ("ant", "bee", "cat")  # of the fixtures


def make_config(folder, **baseline):
    config = default.get_config()
    config.data.path = str(folder)
    config.batch_size = 16
    config.steps = 6
    config.optimizer.learning_rate = 0.01
    config.baseline.update({"model": "resnet18", **baseline})
    config.clone.model = "resnet8"
    return config


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    ],
    ids=["bare", "state_dict", "data parallel"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_what_torch_saves_is_read_bit_for_bit(tmp_path, wrap, zipped):
    network = bridge.randomise(torch, torchvision.models.resnet18(num_classes=7))
    state = network.half().state_dict()
    # A view with strides of its own, as transposed or tied weights are saved.
    state["fc.weight"] = torch.randn(512, 7).T
    path = tmp_path / "a.pth"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)
    read = read_state_dict(path)
    assert read.keys() == {name for name in state if "num_batches" not in name}
    for name, array in read.items():
        np.testing.assert_array_equal(array, state[name].numpy())


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int8"]
)
def test_what_torch_saves_is_read_in_every_dtype(tmp_path, dtype):
    tensor = torch.linspace(-2, 2, 12).reshape(3, 4).to(getattr(torch, dtype))
    torch.save({"parameter": torch.nn.Parameter(tensor, False)}, tmp_path / "a.pth")
    array = read_state_dict(tmp_path / "a.pth")["parameter"]
    assert array.dtype.name == dtype
    np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())


def test_a_whole_pickled_network_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torchvision.models.resnet18(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"asks for torchvision\.models\.resnet\.Re"):
        read_state_dict(tmp_path / "a.pth")


def test_a_torchscript_archive_is_refused_by_what_it_is(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is on its way out
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match="a TorchScript archive"):
        read_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_the_files_of_the_other_tests_are_torchs(tmp_path, save):
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    state = {"a.weight": whole.T, "b": {"c": whole}}
    read = torch.load(save(state, tmp_path / "a.pth"), weights_only=True)
    np.testing.assert_array_equal(read["a.weight"].numpy(), whole.T)
    np.testing.assert_array_equal(read["b"]["c"].numpy(), whole)


def test_bring_a_checkpoint_clone_it_and_take_the_clone_back(
    tmp_path, folder, checkpoint, one_device
):
    config = make_config(folder, weights=str(checkpoint))
    config.clone.model = "resnet18"
    results = story.train(config, tmp_path / "run")
    assert results["baseline"]["top1"] > 60

    path = export(config, tmp_path / "run", format="safetensors")
    network = torchvision.models.resnet18(num_classes=len(CLASSES)).eval()
    state = {k: torch.from_numpy(v) for k, v in read_state_dict(path).items()}
    network.load_state_dict(state, strict=True)

    mesh = partition.make_mesh(jax.devices()[:1])
    classifier = load_classifier(config, tmp_path / "run", "clone", mesh)
    images = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32)
    ours = classifier.forward(classifier.network.variables, images)
    with torch.no_grad():
        theirs = network(bridge.nchw(torch, (images - 0.5) / 0.25)).numpy()
    assert bridge.relative_difference(ours, theirs) < 1e-4
    # The baseline can still be used, though the workdir holds no copy of it.
    baseline = load_classifier(config, tmp_path / "run", "baseline", mesh)
    assert baseline.network.meta.method == "baseline"


def test_a_classifier_of_another_size_is_refused_or_replaced(
    tmp_path, folder, one_device
):
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(num_classes=1000).state_dict(), path)
    config = make_config(folder, weights=str(path))
    config.baseline.min_top1 = 0.0
    config.methods = ()
    with pytest.raises(UserError, match=r"fc\.weight \(1000, 512\), not \(3, 512\)"):
        story.train(config, tmp_path / "refused")
    config.baseline.replace_head = True
    config.optimizer.learning_rate = 1e-12
    story.train(config, tmp_path / "replaced")
    mesh = partition.make_mesh(jax.devices()[:1])
    network = load_classifier(config, tmp_path / "replaced", "baseline", mesh).network
    # Hardly trained at all, so the body is still the file's.
    np.testing.assert_allclose(
        network.variables["params"]["conv1"]["kernel"],
        read_state_dict(path)["conv1.weight"].transpose(2, 3, 1, 0),
        atol=1e-6,
    )
    assert network.variables["params"]["fc"]["kernel"].shape == (512, 3)


def test_a_malicious_file_is_refused_by_the_program(tmp_path, folder):
    class Malicious:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    torch.save({"state_dict": {"conv1.weight": Malicious()}}, tmp_path / "bad.pth")
    config = make_config(folder, weights=str(tmp_path / "bad.pth"))
    with pytest.raises(UserError, match=r"asks for __builtin__\.exec, which is not"):
        story.train(config, tmp_path / "run")
    assert not (tmp_path / "owned").exists()
