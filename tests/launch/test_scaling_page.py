"""docs/scaling.md, command by command."""

import re
import shlex

import pytest
from launching import ROOT

TEXT = (ROOT / "docs" / "scaling.md").read_text()
BLOCKS = "".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [
    shlex.split(line)
    # Words that stand for the reader's own.
    for line in re.sub(r"\b(BUCKET|PROJECT|IMAGE)\b", "mine", BLOCKS)
    .replace("\\\n", "")
    .splitlines()
]
LAUNCHES = [c for c in COMMANDS if re.match(r"launch/|sbatch", c[0])]
PATHS = set(re.findall(r"\b(?:launch|benchmarks|configs)/[\w.]+\w", TEXT))


def test_every_script_has_its_commands():
    words = {word for command in LAUNCHES for word in command}
    assert {"launch/cloud_tpu.sh", "launch/gke.sh", "launch/slurm.sbatch"} <= words


@pytest.mark.parametrize("command", LAUNCHES, ids=" ".join)
def test_every_command_gets_through_a_dry_run(scripts, command):
    [index] = [i for i, word in enumerate(command) if word.startswith("launch/")]
    result = scripts.run(command[index], "--dry-run", *command[index + 1 :])
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert scripts.calls() == []


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).exists()
