"""Several processes on this machine, as a cluster would start them: to try it out.

    python launch/local.py --processes=2 --devices=2 -- \
        python main.py --config=configs/digits.py

Starts the command so often, each with so many CPU devices and what JAX needs to find
the others. SIGTERM and SIGINT are passed on. Ends with the first code that is not 0,
after which the processes that are left are stopped.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Sequence

_GRACE_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of each")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args(arguments)
    return launch(options.command, options.processes, options.devices)


def launch(command: Sequence[str], num_processes: int, num_devices: int) -> int:
    """Starts the processes and waits for them.

    Args:
      command: of each.
      num_processes: how many.
      num_devices: CPU devices of each.

    Returns:
      0, or the first other exit code; that of a signal is 128 and its number.
    """
    port = _free_port()
    processes = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": str(num_processes),
                "JAX_PROCESS_ID": str(index),
                "JAX_NUM_CPU_DEVICES": str(num_devices),
            },
        )
        for index in range(num_processes)
    ]

    def pass_on(number: int, frame: types.FrameType | None) -> None:
        del frame
        for process in processes:
            process.send_signal(number)

    for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), pass_on)
    return _wait(processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The first code that is not 0; those left then have a while to end too."""
    deadline, first = None, 0
    while any(process.poll() is None for process in processes):
        time.sleep(0.1)
        failed = [process.returncode for process in processes if process.returncode]
        if failed and deadline is None:
            first = failed[0]
            deadline = time.monotonic() + _GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            for process in processes:
                process.kill()
    codes = [first, *(process.returncode for process in processes)]
    code = next((code for code in codes if code), 0)
    return code if code >= 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
