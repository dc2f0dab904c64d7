"""Being asked to stop: noticed before anything long, and never lost."""

import os
import signal
import subprocess
import sys

import pytest

from clonalnet_jax.runtime import interruption


@pytest.fixture
def listening():
    """Listens as a run does, and puts everything back."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    watch = interruption._watch
    interruption._watch = interruption._Watch()
    # A worker of pytest-xdist ignores Ctrl-C; a program begins with Python's handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interruption.listen()
    yield
    interruption._watch = watch
    interruption.rest()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_who_asks_between_runs_is_answered_before_the_next(listening, capfd):
    interruption.stop_if_asked()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(interruption.PreemptedError):
        interruption.stop_if_asked()
    assert "stopping" in capfd.readouterr().err


@pytest.mark.parametrize("ask", [interruption.poll, interruption.stop_if_asked])
def test_a_ctrl_c_that_a_library_swallowed_is_raised_again(listening, ask):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    # The raise above is what the library lost.
    with pytest.raises(KeyboardInterrupt):
        ask()


def test_before_something_long_standstill_is_not_watched_for():
    code = """
import time
from clonalnet_jax.runtime import interruption
interruption.listen(watchdog_minutes=0.5 / 60)
interruption.poll()
interruption.stop_if_asked()
time.sleep(1.0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
