"""Files of answers: read as they were written, or refused."""

import dataclasses
import shutil

import numpy as np
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.training.answer_files import AnswerFiles

SHAPE, COUNT = (8, 12), 3


def rows_of(seed):
    rng = np.random.default_rng(seed)
    return list(rng.integers(256, size=(COUNT, *SHAPE), dtype=np.uint8))


@pytest.fixture
def files(tmp_path):
    """Two files of three records each."""
    files = AnswerFiles(tmp_path / "a", SHAPE, "a baseline")
    files.directory.mkdir()
    for number in range(2):
        files.write(COUNT * number, rows_of(number))
    return files


@pytest.fixture
def others(tmp_path):
    """As many answers to other images, in files of the same names."""
    files = AnswerFiles(tmp_path / "b", SHAPE, "another baseline")
    files.directory.mkdir()
    for number in range(2):
        files.write(COUNT * number, rows_of(10 + number))
    return files


def read_all(files):
    return np.stack([files.read(record) for record in range(2 * COUNT)])


def written():
    return np.stack([*rows_of(0), *rows_of(1)])


def test_records_are_read_as_they_were_written(files):
    np.testing.assert_array_equal(read_all(files), written())
    assert [end for _, end in files.whole()] == [COUNT, 2 * COUNT]
    assert not list(files.directory.glob("*.tmp"))
    with pytest.raises(UserError, match="no record 6"):
        files.read(2 * COUNT)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def append(path):
    path.write_bytes(path.read_bytes() + b"more")


def empty(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("no answers\n" * 1000)


def make_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [truncate, cut_the_last_byte, append, empty, write_text, make_a_folder]
)
def test_a_damaged_file_is_named(files, damage):
    path, _ = files.whole()[1]
    damage(path)
    with pytest.raises(UserError) as caught:
        read_all(files)
    assert caught.value.culprit == f"baseline cache {path}"
    assert "computed again" in caught.value.remedy


def test_no_flipped_bit_gives_another_answer(files):
    path, _ = files.whole()[0]
    content, refused = path.read_bytes(), 0
    assert len(content) > 300
    for place in range(0, len(content), max(1, len(content) // 400)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(read_all(files), written())
        except UserError:
            refused += 1
    assert refused > 0


def test_a_file_of_another_cache_is_refused(files, others):
    (path, _), (other, _) = files.whole()[1], others.whole()[1]
    shutil.copy(other, path)
    assert (files.read(0) == rows_of(0)[0]).all()
    with pytest.raises(UserError, match=r"another cache's\n.*\n.*delete it"):
        files.read(COUNT)


def test_files_that_have_changed_places_are_refused(files):
    (first, _), (second, _) = files.whole()
    aside = first.rename(first.with_name("aside"))
    second.rename(first)
    aside.rename(second)
    for record in range(2 * COUNT):
        with pytest.raises(UserError, match=f"record {record} is damaged"):
            files.read(record)


def test_answers_depend_on_all_that_they_depend_on(files):
    with pytest.raises(UserError, match="another cache's"):
        dataclasses.replace(files, origin="a baselin").read(0)


def test_what_comes_after_a_missing_file_is_missing(files):
    (first, _), _ = files.whole()
    first.unlink()
    assert files.whole() == []
