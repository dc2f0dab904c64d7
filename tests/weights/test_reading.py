"""Files of weights: those that are read, and those that are refused unread."""

import contextlib
import io
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from written_by_torch import Call, save_legacy, save_safetensors, save_zip

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights import find_weights, read_state_dict
from clonalnet_jax.weights.sources import check_architecture


def zipped(path, pickled, storages=()):
    """What torch.save writes: a zip with a pickle and its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in storages:
            archive.writestr(f"archive/data/{key}", content)
    return path


def test_prefixes_of_data_parallel_training_are_dropped(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"module.fc.weight": np.ones(3, np.float32)}, path)
    assert list(read_state_dict(path)) == ["fc.weight"]


def tensor_file(path, *, offset=0, shape=(2, 3), strides=(3, 1), count=6):
    """A .pth file with one tensor of a float storage, written by hand.

    Protocol 2 opcodes: the rebuild function with its arguments, in a dict.
    """

    def integers(values):
        return b"(" + b"".join(b"I%d\n" % v for v in values) + b"t"

    pickled = (
        b"\x80\x02}S'weight'\nctorch._utils\n_rebuild_tensor_v2\n("
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\ntQ"
        b"I%d\n"
        % (count, offset)
        + integers(shape)
        + integers(strides)
        + b"I00\nccollections\nOrderedDict\n)RtRs."
    )
    return zipped(path, pickled, [("0", np.arange(count, dtype=np.float32).tobytes())])


def test_a_tensor_is_read_with_its_offset_and_strides(tmp_path):
    path = tensor_file(tmp_path / "a.pth", offset=1, shape=(2, 2), strides=(1, 2))
    np.testing.assert_array_equal(read_state_dict(path)["weight"], [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": (2, 4)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (300, 1)},
        {"strides": (-3, 1)},
        {"shape": (10**12, 1), "strides": (0, 1)},
    ],
)
def test_a_tensor_outside_its_storage_is_not_read(tmp_path, lie):
    with pytest.raises(UserError, match="outside its storage"):
        read_state_dict(tensor_file(tmp_path / "a.pth", **lie))


def test_safetensors_are_read(tmp_path, rng):
    arrays = {"a.weight": rng.normal(size=(2, 3)).astype(np.float32)}
    save_file(arrays, tmp_path / "a.safetensors")
    read = read_state_dict(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["a.weight"], arrays["a.weight"])


def archive_of(*names):
    """A zip file of empty files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return stream.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"hello", "none of the known formats"),
        (b"\x80\x02}q\x00.", "a pickle that torch.save did not write"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in", "an HTML or XML page"),
        (b'{"error": "Not found"}', "a JSON file"),
        (b"\x1f\x8b\x08\x00", "a gzip file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"a" + bytes(256) + b"ustar", "a tar archive"),
        (archive_of("net/code/net.py", "net/data.pkl"), "a TorchScript archive"),
        (archive_of("a.npy", "b.npy"), "a dict without a state dict"),
        (archive_of("net.pth", "read me"), 'a zip archive of "net.pth", "read me"'),
    ],
)
def test_a_file_that_is_no_weights_says_what_it_is(tmp_path, suffix, content, what):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"weights .*a{suffix}\n.*") as caught:
        read_state_dict(path)
    assert what in str(caught.value)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got: *a folder"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, save, part):
    state = {"fc.weight": np.ones((10, 10), np.float32), "fc.bias": np.ones(10)}
    path = save(state, tmp_path / "a.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match="damaged or cut off") as caught:
        read_state_dict(path)
    assert "cannot be read" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_state_dict(tmp_path / "a.pth")


def test_a_pickle_of_something_else_is_named(tmp_path):
    path = save_zip({"epoch": 3, "args": {"lr": 0.1}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r'without a state dict, .* "epoch", "args"'):
        read_state_dict(path)


def test_a_whole_pickled_model_is_named(tmp_path):
    model = Call("torchvision.models.resnet", "ResNet", state={"training": True})
    with pytest.raises(UserError, match=r"asks for torchvision\.models\.resnet\.Re"):
        read_state_dict(save_zip(model, tmp_path / "a.pth"))
    path = save_zip({"epoch": 3, "model": model}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r'"model": the file asks for torchvision\.'):
        read_state_dict(path)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_both_formats_of_torch_are_read_bit_for_bit(tmp_path, rng, save, dtype):
    whole = rng.normal(size=(4, 6)).astype(dtype) * 100
    state = {"a.weight": whole, "b.weight": whole.T, "c.bias": whole[:, 0].copy()}
    read = read_state_dict(save(state, tmp_path / "a.pth"))
    assert read.keys() == state.keys()
    for name, array in state.items():
        assert read[name].dtype == dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float16, jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2]
)
def test_every_floating_point_dtype_of_safetensors_is_read(tmp_path, rng, dtype):
    array = rng.normal(size=(2, 3)).astype(dtype)
    path = save_safetensors({"a.weight": array}, tmp_path / "a.bin")
    read = read_state_dict(path)["a.weight"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read.astype(np.float64), array.astype(np.float64))


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    path = save_zip({"a.weight": np.zeros(10**6, np.float32)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match="compressed"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "name",
    ["timm:resnetaa50.a1h_in1k", "timm:resnetblur50.bt_in1k", "timm:timm/resnetblur18"],
)
def test_timms_networks_of_the_same_tensors_are_refused_by_name(name):
    with pytest.raises(UserError, match="has the same tensors but blurs"):
        check_architecture(name, "resnet50")


def test_the_config_of_the_hub_is_asked_for_the_architecture(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")
    config = tmp_path / "config.json"
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, name: config)
    config.write_text('{"architecture": "resnetblur50"}')
    with pytest.raises(UserError, match="weights of resnetblur50"):
        check_architecture("timm:somebody/anything", "resnet50")
    for harmless in ('{"architecture": "resnet50"}', "[]", "{"):
        config.write_text(harmless)
        check_architecture("timm:somebody/anything", "resnet50")


def test_a_path_is_itself(tmp_path):
    assert find_weights(str(tmp_path / "a.pth")) == tmp_path / "a.pth"


def test_torchvisions_cache_is_searched_and_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=str(tmp_path / "hub" / "checkpoints")):
        find_weights("torchvision:resnet18")
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert find_weights("torchvision:resnet18") == path


def test_timm_without_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with contextlib.suppress(ImportError):  # without it, the message is another one
        from huggingface_hub import constants

        # What it was told by the environment it has read when it was imported first.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"timm:resnet18\.a1_in1k") as caught:
        find_weights("timm:resnet18.a1_in1k")
    assert "give" in str(caught.value)
