"""Ctrl-C: wherever it comes, the process ends, and soon."""

import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, signal, sys, threading, time
from clonalnet_jax.runtime import keyboard
from clonalnet_jax.runtime.threads import map_in_threads
signal.signal(signal.SIGINT, signal.default_int_handler)
keyboard.interrupt_raises()
"""


def run(code):
    """The exit code and what was printed; the code is cut short after ten seconds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        timeout=10,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("holder", "acquire"),
    [
        ("threading.Semaphore(0)", "holder.release"),
        ("threading.Condition(threading.Lock())", "holder.__enter__"),
        ("__import__('queue').Queue()", "lambda: holder.put(1)"),
    ],
)
def test_no_lock_is_left_taken(holder, acquire):
    """The signal is heard at the first line inside the function that takes the lock.

    It is raised a moment later, in the middle of a sleep.
    """
    code = f"""
holder = {holder}
acquire = {acquire}
def trace(frame, event, arg):
    if event == "line" and frame.f_globals["__name__"] in keyboard._LOCKING:
        sys.settrace(None)
        keyboard._raise(signal.SIGINT, frame)
    return trace
try:
    sys.settrace(trace)
    acquire()
    sys.settrace(None)
    print("taken and given back", flush=True)
    time.sleep(9)
    print("slept", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    assert run(code) == (0, "taken and given back\ninterrupted\n")


@pytest.mark.parametrize(
    "dropper",
    [
        "ref = weakref.ref(thing, lambda ref: interrupt())",
        "Thing.__del__ = lambda self: interrupt()",
        "gc.callbacks.append(lambda phase, info: interrupt())",
    ],
)
def test_what_python_drops_is_raised_again(dropper):
    code = f"""
import gc, weakref
class Thing:
    pass
def interrupt():
    gc.callbacks.clear()
    signal.raise_signal(signal.SIGINT)
thing = Thing()
{dropper}
try:
    del thing
    gc.collect()
    time.sleep(8)
    print("slept")
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run(code) == (0, "interrupted\n")


def test_what_else_is_dropped_is_reported():
    code = """
class Thing:
    def __del__(self):
        1 / 0
keyboard.interrupt_raises()
thing = Thing()
del thing
"""
    code, output = run(code)
    assert code == 0
    assert "Exception ignored" in output
    assert output.count("ZeroDivisionError") == 1


def test_who_asks_twice_does_not_wait():
    code = """
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    signal.raise_signal(signal.SIGINT)
print("not here")
"""
    code, output = run(code)
    assert code == 130
    assert output.strip().startswith("ERROR: Interrupted")


def test_many_threads_are_left_where_they_are():
    """Sixty seconds of work for two threads and more; none of it is waited for."""
    code = """
def work(item):
    time.sleep(0.2)
    return item
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    list(map_in_threads(work, range(20_000)))
except KeyboardInterrupt:
    print(time.monotonic() - began < 3)
"""
    assert run(code) == (0, "True\n")


@pytest.mark.parametrize("count", [0, 1, 50])
def test_results_come_in_the_order_of_the_items(count):
    from clonalnet_jax.runtime.threads import map_in_threads

    def late(item):
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(map_in_threads(late, range(count))) == [i * i for i in range(count)]


def test_an_exception_of_the_work_is_the_callers():
    from clonalnet_jax.runtime.threads import map_in_threads

    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(lambda item: 1 // item, range(3)))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("code", [0, 2])
def test_who_interrupts_what_is_done_changes_nothing(code, name):
    program = f"""
import atexit
atexit.register(keyboard.ignore_interrupt)
atexit.register(os.kill, os.getpid(), signal.{name})
keyboard.interrupt_ends_with({code})
print("done", flush=True)
sys.exit({code})
"""
    assert run(program) == (code, "done\n")


def test_a_wait_can_be_interrupted():
    code = """
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    threading.Event().wait(8)
    print("waited")
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run(code) == (0, "interrupted\n")
