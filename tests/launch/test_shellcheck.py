"""The scripts are sound shell."""

import subprocess

import pytest
from launching import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "launch").iterdir()
    if path.suffix in {".sh", ".sbatch"}
)


def test_all_scripts_are_looked_at():
    assert {"launch/cloud_tpu.sh", "launch/gke.sh", "launch/slurm.sbatch"} <= set(
        SCRIPTS
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(shellcheck, script):
    shellcheck(script)


def test_shellcheck_would_find_something(shellcheck):
    with pytest.raises(AssertionError, match="SC2086"):
        shellcheck("-", text="#!/bin/bash\nrm $1\n")


@pytest.mark.parametrize("script", ["launch/cloud_tpu.sh", "launch/gke.sh"])
def test_help_lists_every_command(script):
    text = (ROOT / script).read_text()
    result = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    [names] = [
        line.strip().removesuffix(") \"$command\" ;;")
        for line in text.splitlines()
        if line.strip().startswith("create |") and '"$command" ;;' in line
    ] or ["image | setup | fetch | submit | render | status | logs | delete"]
    for name in names.split(" | "):
        assert f"\n  {name} " in result.stdout
