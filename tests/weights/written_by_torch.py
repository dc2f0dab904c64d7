"""Files as PyTorch and safetensors write them, byte by byte, without either."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np

# What PyTorch before 1.6 wrote first.
MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int8": "CharStorage",
}


class Named:
    """Pickled as a name, such as a class that is not installed here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a name, with the state that it would be given."""

    def __init__(self, module, name, *arguments, state=None):
        self.function, self.arguments = Named(module, name), arguments
        self.state = state


class _Pickler(pickle._Pickler):
    """Python's pickler in Python, which can write names that nobody has."""

    def __init__(self, stream, storages, *, legacy=False):
        super().__init__(stream, protocol=2)
        self.storages, self.legacy = storages, legacy

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        array = value.array
        new = (array, str(len(self.storages)))
        key = self.storages.setdefault(id(array), new)[1]
        kind = Named("torch", STORAGES[array.dtype.name])
        reference = ("storage", kind, key, "cpu", array.size)
        return (*reference, None) if self.legacy else reference

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
            if value.state is not None:
                self.save(value.state)
                self.write(b"b")
        elif isinstance(value, np.ndarray):
            self.save(_tensor(value))
        else:
            super().save(value, save_persistent_id)


class _Storage:
    def __init__(self, array):
        self.array = array


def _tensor(array):
    strides = tuple(step // array.itemsize for step in array.strides)
    backward_hooks = Call("collections", "OrderedDict")
    return Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        _Storage(array),
        0,
        array.shape,
        strides,
        False,
        backward_hooks,
    )


def save_zip(value, path):
    """Writes what torch.save writes; arrays become tensors."""
    stream, storages = io.BytesIO(), {}
    _Pickler(stream, storages).dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for array, key in storages.values():
            archive.writestr(f"archive/data/{key}", array.tobytes("A"))
    return path


def save_legacy(value, path):
    """Writes what torch.save wrote before 1.6."""
    storages = {}
    with path.open("wb") as stream:
        for part in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
            stream.write(pickle.dumps(part, protocol=2))
        _Pickler(stream, storages, legacy=True).dump(value)
        stream.write(pickle.dumps([key for _, key in storages.values()], protocol=2))
        for array, _ in storages.values():
            stream.write(struct.pack("<q", array.size) + array.tobytes("A"))
    return path


# What safetensors calls a dtype, where that is not its kind and size.
DTYPES = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


def save_safetensors(state, path):
    """Writes arrays of any dtype, those of 8 bits too."""
    header, content = {}, b""
    for name, array in state.items():
        dtype = DTYPES.get(array.dtype.name, f"F{8 * array.itemsize}")
        offsets = [len(content), len(content) + array.nbytes]
        content += array.tobytes()
        entry = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        header[name] = entry
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)
    return path
