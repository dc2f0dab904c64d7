"""What the scripts expect of main.py."""

import os
import subprocess
import sys

from launching import ROOT


def test_a_process_that_finds_no_others_stops_as_for_a_users_mistake():
    # Were --distributed unknown, the message would be another one.
    command = ("main.py", "--config=configs/digits.py", "--config.data.threads=6")
    result = subprocess.run(
        [sys.executable, *command, "--distributed=on"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "no other processes" in result.stderr
