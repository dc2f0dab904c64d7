"""What was sealed stays sealed, and what was never sealed is still of use."""

import dataclasses
import json
import os

import jax
import pytest
from test_checkpoints import META, make_state, save, shapes, steps_in, warn_never

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime import partition
from clonalnet_jax.workdir import digests
from clonalnet_jax.workdir.checkpoints import Checkpoints, read_meta, restore_variables
from clonalnet_jax.workdir.digests import DamagedCheckpoint
from clonalnet_jax.workdir.files import write_atomically
from clonalnet_jax.workdir.meta import parse_meta
from clonalnet_jax.workdir.records import drop_after, read_records
from clonalnet_jax.workdir.sealed import lost_files, seal_log, write_sealed


@pytest.fixture(scope="module")
def mesh():
    return partition.make_mesh(jax.devices()[:1])


@pytest.fixture
def run(tmp_path, mesh):
    """The directory of a run with steps 10 and 20."""
    save(tmp_path / "clone", mesh, [50.0, 60.0])
    return tmp_path / "clone"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def largest(folder):
    files = [p for p in (folder / "model").rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def resume(run, mesh):
    warnings = []
    with Checkpoints(run) as checkpoints:
        found = checkpoints.restore(shapes(mesh), META, warn=warnings.append)
    return found and found[1].step, warnings


@pytest.mark.parametrize("digest", [None, "", "{}", "[1]", '{"x": "y"}'])
def test_a_flipped_bit_is_seen_without_the_digests_beside_it(run, mesh, digest):
    flip(largest(run / "20"))
    path = run / "20" / "digests.json"
    path.unlink() if digest is None else path.write_text(digest)
    with pytest.raises(DamagedCheckpoint, match="not what was saved"):
        restore_variables(run, mesh)
    step, (warning,) = resume(run, mesh)
    assert step == 10
    assert "20.damaged" in warning


@pytest.mark.parametrize("digest", [None, "", "{}", "[1]"])
def test_digests_alone_that_are_lost_are_written_again(run, mesh, digest):
    path = run / "20" / "digests.json"
    before = path.read_text()
    path.unlink() if digest is None else path.write_text(digest)
    assert resume(run, mesh) == (20, [])
    assert json.loads(path.read_text()) == json.loads(before)


@pytest.mark.parametrize("ledger", [None, "", "[]", "flipped"])
def test_without_the_ledger_the_digests_beside_hold(run, mesh, ledger):
    path = run / "sealed.json"
    if ledger == "flipped":
        flip(path)
    else:
        path.unlink() if ledger is None else path.write_text(ledger)
    assert read_meta(run).step == 20
    flip(largest(run / "20"))
    with pytest.raises(DamagedCheckpoint):
        read_meta(run)


def test_a_workdir_without_a_ledger_gets_one(run, mesh):
    (run / "sealed.json").unlink()
    assert resume(run, mesh) == (20, [])
    (run / "20" / "digests.json").unlink()
    flip(largest(run / "20"))
    with pytest.raises(DamagedCheckpoint):
        read_meta(run)


def test_a_save_that_was_killed_before_it_was_sealed_is_used(run, mesh):
    (run / "20" / "digests.json").unlink()
    digests.expect(run, 20)
    assert read_meta(run).step == 20
    assert resume(run, mesh) == (20, [])
    assert (run / "20" / "digests.json").exists()


@pytest.mark.parametrize(("step", "finished"), [("10", False), ("20", True)])
def test_lost_digests_of_an_older_version_are_damage_where_they_must_have_been(
    run, step, finished
):
    (run / "sealed.json").unlink()
    if finished:
        (run.parent / "results.json").write_text('{"clone": {}}')
    (run / step / "digests.json").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"digests\.json is missing"):
        digests.verify(run / step)


@pytest.mark.parametrize("name", ["metrics/metrics", "_CHECKPOINT_METADATA"])
def test_a_bad_file_of_an_old_step_does_not_stop_a_run(run, mesh, name):
    path = run / "10" / name
    os.truncate(path, path.stat().st_size // 2)
    assert restore_variables(run, mesh)[1].step == 20
    step, (warning,) = resume(run, mesh)
    assert step == 20
    assert name in warning


def test_a_step_damaged_twice_is_set_aside_under_a_free_name(run, mesh):
    for expected in ("20.damaged", "20.damaged-2"):
        flip(largest(run / "20"))
        step, (warning,) = resume(run, mesh)
        assert step == 10
        assert f"Moved to {run / expected};" in warning
        with Checkpoints(run) as checkpoints:
            meta = dataclasses.replace(META, step=20)
            checkpoints.save(make_state(mesh, 3), meta, {"top1": 1.0})
    assert steps_in(run) == [10, 20]


def test_a_directory_of_another_run_is_refused(run, mesh):
    other = run.rename(run.with_name("distillation"))
    with pytest.raises(UserError, match="trained as 'clone'"):
        restore_variables(other, mesh, run="distillation")
    asked = dataclasses.replace(META, method="distillation")
    with (
        Checkpoints(other) as checkpoints,
        pytest.raises(UserError, match="another run"),
    ):
        checkpoints.restore(shapes(mesh), asked, warn=warn_never)


@pytest.mark.parametrize(
    "content", [[1], 7, None, {}, {"model": "resnet8"}, {**vars(META), "step": "x"}]
)
def test_meta_of_another_kind_is_named(tmp_path, content):
    with pytest.raises(UserError, match="meta/metadata"):
        parse_meta(tmp_path / "20", content)


def test_a_write_honours_the_umask_and_leaves_nothing_where_it_fails(
    tmp_path, monkeypatch
):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", "one")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match=r"No space left on device: .*file"):
        write_atomically(tmp_path / "file", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "one"


def record(step, run="clone"):
    return json.dumps({"run": run, "split": "train", "step": step, "loss": 1.5}) + "\n"


@pytest.mark.parametrize("tail", ['{"run": "clo', "[1]\n", '{"run": 1}\n', "\xff\n"])
def test_lines_that_are_cut_or_of_another_kind_are_left_out_with_a_warning(
    tmp_path, tail
):
    (tmp_path / "metrics.jsonl").write_text(record(1) + record(2) + tail)
    warnings = []
    found = read_records(tmp_path, warn=warnings.append)
    assert [r["step"] for r in found] == [1, 2]
    assert "1 of 3 lines" in warnings[0]
    drop_after(tmp_path, "clone", 1, warn=warn_never)
    assert (tmp_path / "metrics.jsonl").read_text() == record(1)


def test_a_changed_log_is_told_and_an_appended_one_is_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(record(1))
    seal_log(tmp_path, path.name)
    with path.open("a") as file:
        file.write(record(2))
    assert len(read_records(tmp_path, warn=warn_never)) == 2
    path.write_text(path.read_text().replace("1.5", "2.5"))
    warnings = []
    read_records(tmp_path, warn=warnings.append)
    assert "not what was logged" in warnings[0]


def test_a_file_is_lost_where_it_was_written_once(tmp_path):
    write_sealed(tmp_path, "compare.json", "{}")
    names = ("compare.json", "environment.json")
    assert lost_files(tmp_path, names) == []
    (tmp_path / "compare.json").unlink()
    assert lost_files(tmp_path, names) == [tmp_path / "compare.json"]
