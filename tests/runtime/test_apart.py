"""A call in a process of its own: its answer, its error, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.runtime.apart import CrashedError, call_apart

ROOT = Path(__file__).parents[2]


def add(a, b):
    print(f"adding {a}", file=sys.stderr)
    os.write(2, b"a library says something\n")
    return a + b


def refuse():
    raise UserError("x", got="1", expected="2", remedy="3")


def crash(number, words):
    os.write(2, b"pages\n" * 100 + words + b"more pages\n" * 100)
    os.kill(os.getpid(), number)


def leave(code):
    os._exit(code)


def write_and_wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def test_it_gives_the_answer_and_what_was_said(capfd):
    assert call_apart(add, 1, 2) == 3
    said = capfd.readouterr().err
    assert "adding 1" in said
    assert "a library says something" in said


def test_it_raises_what_the_function_raises():
    with pytest.raises(UserError, match="got:      1") as caught:
        call_apart(refuse)
    assert caught.value.remedy == "3"


def test_an_error_of_the_program_itself_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        call_apart(divmod, 1, 0)
    (note,) = caught.value.__notes__
    assert "in _call" in note


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (signal.SIGSEGV, b"*** SIGSEGV STACK OVERFLOW ***\n", "SIGSEGV STACK OVERFLOW"),
        (signal.SIGABRT, b"", "SIGABRT: more pages"),
        (signal.SIGKILL, b"", "SIGKILL, as Linux does where memory runs out"),
    ],
)
def test_a_crash_is_told_in_a_line(number, words, expected, capfd):
    with pytest.raises(CrashedError, match=expected) as caught:
        call_apart(crash, number, words)
    assert signal.Signals(number).name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pages" not in capfd.readouterr().err


def test_an_end_without_a_word_is_told():
    with pytest.raises(CrashedError, match=r"^exit code 7$"):
        call_apart(leave, 7)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_the_program_ends_the_call(number, tmp_path):
    path = tmp_path / "pid"
    program = (
        # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from clonalnet_jax.runtime.apart import call_apart\n"
        "from tests.runtime.test_apart import write_and_wait\n"
        f"call_apart(write_and_wait, {str(path)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (path.exists() and path.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        # As a terminal does it: to both.
        os.killpg(process.pid, number)
        _, said = process.communicate()
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: -2}[number]
    assert said.count("Traceback") == (number == signal.SIGINT)  # this program's
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
