"""Files of weights: those that are read, and those that are refused unread."""

import contextlib
import os
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights import find_weights, read_state_dict


def zipped(path, pickled, storages=()):
    """What torch.save writes: a zip with a pickle and its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in storages:
            archive.writestr(f"archive/data/{key}", content)
    return path


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("hide", [lambda x: x, lambda x: {"a": x}, lambda x: [{1: x}]])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, hide):
    pickled = pickle.dumps(hide(Malicious(tmp_path / "owned")))
    pickle.loads(pickled)  # it would work
    (tmp_path / "owned").unlink()
    path = zipped(tmp_path / "bad.pth", pickled)
    with pytest.raises(UserError, match=r"asks for (posix|os)\.system"):
        read_state_dict(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "call", ["builtins\neval", "builtins\ngetattr", "torch\nload", "os\nsystem"]
)
def test_no_other_function_can_be_named(tmp_path, call):
    pickled = b"c" + call.encode() + b"\n(S'1'\ntR."
    with pytest.raises(UserError, match="asks for"):
        read_state_dict(zipped(tmp_path / "bad.pth", pickled))


@pytest.mark.parametrize(
    "name",
    [
        b"torch\nBFloat16Storage",
        b"torch._utils\n_rebuild_tensor_v2",
        b"torch._utils\n_rebuild_parameter",
        b"collections\nOrderedDict",
        b"torch\nSize",
    ],
)
@pytest.mark.parametrize(
    "state", [b"(N}S'dtype'\nS'evil'\nst", b"}S'dtype'\nS'evil'\ns"]
)
def test_a_pickle_cannot_change_what_it_names(tmp_path, name, state):
    pickled = b"\x80\x02c" + name + b"\n" + state + b"b0}."
    path = zipped(tmp_path / "bad.pth", pickled)
    with pytest.raises(UserError, match="cannot be read"):
        read_state_dict(path)
    assert jnp.bfloat16.dtype == jnp.dtype("bfloat16")


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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_weights_is_named(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a{suffix}"):
        read_state_dict(path)


def test_a_truncated_file_is_named(tmp_path):
    path = tensor_file(tmp_path / "a.pth")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="damaged"):
        read_state_dict(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_state_dict(tmp_path / "a.pth")


def test_a_pickle_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match="without a state dict"):
        read_state_dict(zipped(tmp_path / "a.pth", pickle.dumps({"epoch": 3})))


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
