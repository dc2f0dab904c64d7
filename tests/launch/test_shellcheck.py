"""The scripts are sound shell."""

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
