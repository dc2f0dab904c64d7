"""CIFAR archives are whole, and come out as they went in."""

import os
import pickle
import tarfile

import pytest

from clonalnet_jax.data.builders.cifar import cifar10
from clonalnet_jax.data.prepare import Request, prepare
from clonalnet_jax.errors import UserError
from tests.data.sources_made import (
    contents,
    read,
    write_cifar,
)


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "archive"])
@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_archives_come_out_as_they_went_in(tmp_path, rng, classes, packed):
    source = tmp_path / f"cifar-{classes}-python"
    splits = write_cifar(source, rng, classes)
    if packed:
        with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as tar:
            tar.add(source, source.name)
        source = tmp_path / "cifar.tar.gz"
    name = f"cifar{classes}"
    prepare(Request(name, source, output=str(tmp_path / "tfds")))
    dataset = read(tmp_path, name)
    assert contents(dataset.train) == splits["train"]
    assert contents(dataset.test) == splits["test"]
    assert dataset.class_names[3] == "class 3"


class Malice:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["batches.meta", "data_batch_1"])
def test_a_malicious_archive_is_refused_and_not_run(tmp_path, rng, where):
    source = tmp_path / "cifar"
    write_cifar(source, rng, 10)
    (source / where).write_bytes(pickle.dumps(Malice(tmp_path / "owned"), protocol=2))
    with pytest.raises(UserError, match="mkdir"):
        prepare(Request("cifar10", source, output=str(tmp_path / "tfds")))
    assert not (tmp_path / "owned").exists()


def test_a_label_out_of_range_is_named(tmp_path, rng):
    write_cifar(tmp_path / "cifar", rng, 10)
    path = tmp_path / "cifar" / "test_batch"
    content = pickle.loads(path.read_bytes())
    content[b"labels"][0] = 10
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match="to 10"):
        prepare(Request("cifar10", tmp_path / "cifar", output=f"{tmp_path}/tfds"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: (root / "data_batch_3").unlink(), "no data_batch_3"),
        (
            lambda root: (root / "data_batch_1 (1)").write_bytes(b""),
            r"also data_batch_1 \(1\)",
        ),
        (
            lambda root: (root / "data_batch_2").write_bytes(
                (root / "data_batch_1").read_bytes()
            ),
            "data_batch_2 with the images of data_batch_1",
        ),
    ],
)
def test_cifar_batches_that_lack_or_double_are_named(tmp_path, rng, change, named):
    write_cifar(tmp_path / "cifar", rng, 10)
    change(tmp_path / "cifar")
    with pytest.raises(UserError, match=named):
        cifar10(tmp_path / "cifar")


def test_cifar_files_that_are_not_the_authors_are_mentioned(tmp_path, rng):
    write_cifar(tmp_path / "cifar", rng, 10)
    (note,) = cifar10(tmp_path / "cifar").notes
    assert "NOT THE ORIGINAL" in note
    assert "4 in test_batch" in note
