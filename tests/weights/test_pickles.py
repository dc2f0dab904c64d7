"""Pickles as data: what malicious ones ask for never happens."""

import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from written_by_torch import Call, Named, save_legacy, save_zip

from clonalnet_jax.errors import UserError
from clonalnet_jax.weights import read_state_dict
from clonalnet_jax.weights.pickles import Placeholder, read_pickle
from clonalnet_jax.weights.tensors import build, refer

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(pickled):
    return read_pickle(io.BytesIO(pickled), build, refer)


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, True, False, None, -(2**40), 2**100]},
        ["text", "übung", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        {"deep": {"deeper": [{"deepest": (1, [2])}]}, 3: "three"},
        [[1]] * 3,
    ],
    ids=["None", "numbers", "texts and tuples", "nested", "memo"],
)
def test_plain_data_are_read_as_pickle_reads_them(value, protocol):
    assert read(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])  # before, a call makes them
def test_bytes_are_read_as_pickle_reads_them(protocol):
    assert read(pickle.dumps(b"bytes", protocol=protocol)) == b"bytes"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hide", [lambda x: x, lambda x: {"a": x}, lambda x: [{1: x}]])
def test_a_malicious_object_is_a_placeholder_and_not_made(tmp_path, hide, protocol):
    pickled = pickle.dumps(hide(Malicious(tmp_path / "owned")), protocol=protocol)
    pickle.loads(pickled)  # it would work
    (tmp_path / "owned").unlink()
    read(pickled)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'touch owned'\ntR.",
        b"(S'touch owned'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch owned'\no.",
        b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch owned\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch owned\x85}\x92.",
    ],
    ids=["REDUCE", "INST", "OBJ", "NEWOBJ", "STACK_GLOBAL", "NEWOBJ_EX"],
)
def test_no_opcode_calls_anything(pickled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = read(pickled)
    assert isinstance(value, Placeholder)
    assert value.name == "os.system"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        b"torch\nBFloat16Storage",
        b"torch._utils\n_rebuild_tensor_v2",
        b"collections\nOrderedDict",
        b"torch\nSize",
    ],
)
@pytest.mark.parametrize(
    "state", [b"(N}S'dtype'\nS'evil'\nst", b"}S'dtype'\nS'evil'\ns"]
)
def test_a_state_is_given_to_nothing(name, state):
    value = read(b"\x80\x02c" + name + b"\n" + state + b"b.")
    assert isinstance(value, Placeholder)
    assert not hasattr(value, "dtype")


# Each would take gigabytes or end the process if Python's unpickler read it.
_DEEP = 200_000
BOMBS = (
    b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo as large as it says
    b"\x80\x04\x8d\xff\xff\xff\xff\x01\x00\x00\x00a.",  # text, as long as it says
    b"\x80\x05\x96\xff\xff\xff\xff\x01\x00\x00\x00a.",  # bytes, likewise
    b"\x80\x04\x95\xff\xff\xff\xff\x01\x00\x00\x00.",  # a frame, likewise
    b"\x80\x02})" + b"\x85" * _DEEP + b"K\x01s.",  # a key of deep tuples
    b"\x80\x02" + b"]" * _DEEP + b"a" * (_DEEP - 1) + b".",
    b"\x80\x02" + b"}K\x01" * _DEEP + b"N" + b"s" * _DEEP + b".",
)
# May take 1 GiB beyond what importing took.
_DISPOSAL = """
import io, pathlib, resource, sys
from clonalnet_jax.weights.pickles import read_pickle
from clonalnet_jax.weights.tensors import build, refer
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sys.argv[1:]:
    try:
        read_pickle(io.BytesIO(pathlib.Path(path).read_bytes()), build, refer)
    except ValueError as error:
        print(error)
    print("alive")
"""


@pytest.mark.slow
def test_a_bomb_takes_neither_the_memory_nor_the_process(tmp_path):
    paths = [tmp_path / str(number) for number in range(len(BOMBS))]
    for path, bomb in zip(paths, BOMBS, strict=True):
        path.write_bytes(bomb)
    command = [sys.executable, "-c", _DISPOSAL, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("alive") == len(BOMBS)


def test_pythons_own_unpickler_takes_the_memory():
    program = f"""
import pickle, resource
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
pickle.loads({BOMBS[0]!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert b"MemoryError" in done.stderr


def test_more_opcodes_than_any_file_has_are_refused(monkeypatch):
    monkeypatch.setattr("clonalnet_jax.weights.pickles._MOST_OPCODES", 20)
    assert read(b"N0" * 9 + b"N.") is None
    with pytest.raises(ValueError, match="more than 20 opcodes"):
        read(b"N0" * 10 + b"N.")


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02",
        b".",
        b"0.",
        b"(.",
        b"t.",
        b"K\x01R.",
        b"h\x05.",
        b"}K\x01u.",
        b"}(K\x01u.",
        b"\x80\x05\x97.",
        b"\xff.",
        b"(K\x01K\x02\x85\x87.",
    ],
)
def test_a_damaged_pickle_is_a_value_error(pickled):
    with pytest.raises(ValueError, match=r"pickle|opcode|exhausted|expected|truncat"):
        read(pickled)


OBJECTS = {
    "argparse.Namespace": Call(
        "copy_reg", "_reconstructor", Named("argparse", "Namespace"), state={"lr": 0.1}
    ),
    "pathlib.PosixPath": Call("pathlib", "PosixPath", "home", "runs"),
    "torch.device": Call("torch", "device", "cuda"),
    "torch.float32": Named("torch", "float32"),
    "numpy.core.multiarray.scalar": Call("numpy.core.multiarray", "scalar", 1, b"x"),
    "torch.utils.hparams.AttributeDict": Call(
        "torch.utils.hparams", "AttributeDict", {"lr": 0.1}
    ),
    "builtins.set": {1, 2},
    "__builtin__.exec": Call("__builtin__", "exec", "open('owned', 'w')"),
}


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_tensors_do_no_harm(tmp_path, monkeypatch, name, save):
    monkeypatch.chdir(tmp_path)
    whole = {"args": OBJECTS[name], "state_dict": {"fc.weight": WEIGHT}}
    whole["more"] = Call("collections", "defaultdict", OBJECTS[name])
    path = save(whole, tmp_path / "net.pth")
    np.testing.assert_array_equal(read_state_dict(path)["fc.weight"], WEIGHT)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [n for n in OBJECTS if n != "builtins.set"])
def test_a_file_with_nothing_but_an_object_names_it(tmp_path, name):
    path = save_zip({"state_dict": {"fc.weight": OBJECTS[name]}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f'"fc.weight": the file asks for {name}'):
        read_state_dict(path)
    path = save_zip(OBJECTS[name], tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"asks for {name}"):
        read_state_dict(path)
