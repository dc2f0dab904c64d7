"""Starts the program as its users do."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def start(command, *, tfds_dir):
    """A process in the root of the checkout, its output piped."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TFDS_DATA_DIR": tfds_dir},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code=0):
    """What it printed, once it has ended with a code."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output
