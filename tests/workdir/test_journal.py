"""What a run says where its output is no terminal."""

import pytest

from clonalnet_jax.workdir import journal

TRAIN = {"top1": 50.0, "images_per_second": 1234.0}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    seconds = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_line_says_how_far_it_is_but_not_too_often(tmp_path, capsys, clock):
    told = journal.Journal(tmp_path)
    told.start_run("clone", num_steps=100, step=20)
    for step in range(30, 100, 10):
        clock[0] += 2
        told.advance(step)
        told.log("train", step, TRAIN)
    told.log("test", 90, {"top1": 60.0})
    told.end_run()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "  clone 20/100  compiling"
    assert [line.split()[1] for line in lines] == ["50/100", "80/100", "90/100"]
    assert all("left  top-1 50.0 %  1,234 images/s" in line for line in lines)
    assert [" test top-1 60.0 %" in line for line in lines] == [False, False, True]


def test_a_second_run_begins_anew(tmp_path, capsys, clock):
    told = journal.Journal(tmp_path)
    for run in ("baseline", "clone"):
        told.start_run(run, num_steps=10, step=0)
        told.log("train", 5, TRAIN)
        told.end_run()
        clock[0] += 60
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  baseline 0/10  compiling", "  clone 0/10  compiling"]
