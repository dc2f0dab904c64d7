"""One run at a time in a workdir, on every system and file system."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import filelock
import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.workdir import lock


def warn_never(text):
    raise AssertionError(text)


def test_a_workdir_is_one_runs_alone(tmp_path):
    owner = f"process {os.getpid()} on "
    with lock.hold(tmp_path, warn=warn_never):
        with (
            pytest.raises(UserError, match=f"in use by .*{owner}"),
            lock.hold(tmp_path, warn=warn_never),
        ):
            pass
        # Whoever was refused has not taken the lock away.
        assert owner in (tmp_path / "lock.owner").read_text()
    with lock.hold(tmp_path, warn=warn_never):
        pass


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from clonalnet_jax.workdir.lock import hold\n"
        "with hold(Path(sys.argv[1]), warn=print):\n"
        "  print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"in use by .*process {other.pid} on"),
            lock.hold(tmp_path, warn=warn_never),
        ):
            pass
        other.send_signal(signal.SIGKILL)
    warnings = []
    with lock.hold(tmp_path, warn=warnings.append):
        pass
    assert f"process {other.pid} on" in warnings[0]
    assert "is stale" in warnings[0]


@pytest.mark.parametrize("name", ["lock", "lock.owner"])
def test_a_link_in_place_of_the_lock_is_never_followed(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / name).symlink_to(precious)
    refused = pytest.raises(UserError, match="symbolic link")
    outcome = refused if name == "lock" else contextlib.nullcontext()
    with outcome, lock.hold(workdir, warn=warn_never):
        pass
    assert precious.read_text() == "precious"


def test_a_file_system_without_locks_warns_and_goes_on(tmp_path, monkeypatch):
    def fail(self, *_, **__):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(filelock.FileLock, "_acquire", fail)
    warnings = []
    with lock.hold(tmp_path, warn=warnings.append):
        pass
    assert "cannot be locked: Operation not supported" in warnings[0]
