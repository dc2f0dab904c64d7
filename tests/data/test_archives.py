"""Archives and prepared sets are whole and addressable, or refused with a reason."""

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clonalnet_jax.data.builders.archives import open_tree
from clonalnet_jax.data.builders.content import Content, make_builder
from clonalnet_jax.data.prepare import Request, main, prepare
from clonalnet_jax.data.tfds_files import check_whole
from clonalnet_jax.errors import UserError
from tests.data.sources_made import write_folder

ROOT = Path(__file__).parent.parent.parent


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"root/meta": b"names", **members}.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_a_link_to_a_file_of_an_archive_reads_the_file(tmp_path):
    path = write_tar(tmp_path / "a.tgz", {"root/b": "meta", "root/._b": b"mac"})
    tree = open_tree(path, below="meta")
    assert {name: read() for name, read in tree.items()} == dict.fromkeys(
        ("meta", "b"), b"names"
    )


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"root/a": "b", "root/b": "a"}, "root/a, a link"),
        ({"root/a": "../../etc/passwd"}, "no file in it"),
        ({"../a": b"x"}, "outside of it"),
        ({"/a": b"x"}, "outside of it"),
        ({"other/meta": b"x"}, "more than one"),
        ({"root/\udcff": "gone"}, "udcff"),
    ],
)
def test_a_tar_file_with_odd_members_is_refused(tmp_path, members, named):
    path = write_tar(tmp_path / "a.tgz", members)
    with pytest.raises(UserError, match=named):
        open_tree(path, below="meta")


def test_a_bit_that_is_flipped_in_the_checksum_of_a_tar_gz_is_noticed(tmp_path):
    path = write_tar(tmp_path / "a.tgz", {})
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="CRC"):
        open_tree(path, below="meta")


def test_a_tar_file_whose_second_header_is_damaged_is_no_shorter_one(tmp_path):
    path = write_tar(tmp_path / "a.tgz", {"root/b": b"x"})
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[1024] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(UserError, match="breaks off"):
        open_tree(path, below="meta")


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("root/meta", b"names")
    return path


def test_a_zip_file_is_known_by_its_content_and_its_bits_are_checked(tmp_path):
    path = write_zip(tmp_path / "a.ZIP")
    assert open_tree(path, below="meta")["meta"]() == b"names"
    path.write_bytes(path.read_bytes().replace(b"names", b"namez"))
    with pytest.raises(UserError, match=r"root/meta(?s:.*)CRC"):
        open_tree(path, below="meta")["meta"]()


def test_an_encrypted_zip_file_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        open_tree(path, below="meta")


@pytest.mark.parametrize("name", ["my-data", "MyData", "a/b", "9a", "a\n", "digits"])
def test_a_name_that_tfds_cannot_address_is_refused_first(tmp_path, name):
    with pytest.raises(UserError, match=r"try: +--name=[a-z][a-z0-9_]*"):
        prepare(Request("folder", tmp_path, name=name, output=f"{tmp_path}/tfds"))
    assert not (tmp_path / "tfds").exists()


@pytest.mark.parametrize("name", ["a\nb", "a ", "", "b", "\udcff"])
def test_a_class_name_that_tfds_would_change_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="name of a class"):
        make_builder("mine", Content("", ("b", name), (8, 8, 3), {}), str(tmp_path))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    write_folder(root / "images", np.random.default_rng(0))
    request = Request("folder", root / "images", name="mine", output=f"{root}/tfds")
    prepare(request)
    return root / "tfds" / "mine" / "1.0.0"


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"name', b'"x"'])
@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_a_description_of_another_kind_is_named(prepared, name, content):
    whole = (prepared / name).read_bytes()
    (prepared / name).write_bytes(content)
    try:
        with pytest.raises(UserError, match=name):
            check_whole(prepared)
    finally:
        (prepared / name).write_bytes(whole)
    check_whole(prepared)


@pytest.mark.parametrize("change", [lambda c: c[: len(c) // 2], lambda c: b"{}" * 50])
def test_a_damaged_file_of_images_is_named(prepared, change):
    (path,) = prepared.glob("*train.array_record*")
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    try:
        with pytest.raises(UserError, match=path.name):
            check_whole(prepared)
    finally:
        path.write_bytes(whole)


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_nothing_that_is_taken_for_whole(tmp_path):
    script = f"""
import resource, signal
from clonalnet_jax.data.prepare import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
raise SystemExit(main(["digits", "--output={tmp_path}/tfds"]))
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "ERROR: cannot prepare digits" in result.stderr
    assert not list((tmp_path / "tfds" / "digits").glob("*1.0.0"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["mnist", "--source=x"], "--source"),
        (["mnist", "--name=mine"], "--name"),
    ],
)
def test_an_argument_that_would_be_passed_over_is_refused(capsys, arguments, named):
    assert main(arguments) == 2
    assert f"ERROR: {named}" in capsys.readouterr().err
