"""Compiled programs: whole ones are kept, damaged ones are dropped and made again."""

import os
import zlib

import pytest

from clonalnet_jax.workdir import compiled

PROGRAM = zlib.compress(bytes(range(256)) * 40)


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "jit_step-0a-cache"
    found.write_bytes(PROGRAM)
    return found


def cut(path):
    os.truncate(path, len(PROGRAM) // 2)


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(PROGRAM)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other(path):
    path.write_text('[{"top1": "high"}, 7]')


def another_program(path):
    path.write_bytes(zlib.compress(b"another"))


@pytest.mark.parametrize("sealed", [True, False])
def test_a_whole_program_is_kept(path, sealed):
    if sealed:
        compiled.seal(path.parent)
    compiled.drop_damaged(path.parent)
    assert path.read_bytes() == PROGRAM


@pytest.mark.parametrize("damage", [cut, empty, flip, other])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_program_is_dropped(path, damage, sealed):
    if sealed:
        compiled.seal(path.parent)
    damage(path)
    compiled.drop_damaged(path.parent)
    assert not path.exists()


def test_a_sealed_program_is_known_whatever_its_compression_checks(path):
    compiled.seal(path.parent)
    another_program(path)
    compiled.drop_damaged(path.parent)
    assert not path.exists()


def test_nothing_is_made_where_there_are_no_programs(tmp_path):
    compiled.drop_damaged(tmp_path / "compiled")
    compiled.seal(tmp_path / "compiled")
    assert not (tmp_path / "compiled").exists()
