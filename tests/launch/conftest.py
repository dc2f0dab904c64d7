"""What the tests of launch/ share."""

import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from launching import ROOT, Scripts, split_commands


@pytest.fixture
def scripts(tmp_path) -> Scripts:
    """See the class."""
    return Scripts(tmp_path)


@pytest.fixture
def dry_run(scripts) -> Callable[..., list[list[str]]]:
    """`(script, *arguments) -> commands` that --dry-run prints, word by word."""

    def run(script: str, *arguments: str) -> list[list[str]]:
        result = scripts.run(script, "--dry-run", *arguments)
        assert result.returncode == 0, result.stderr
        assert scripts.calls() == []
        return split_commands(result.stdout)

    return run


@pytest.fixture
def shellcheck() -> Callable[..., None]:
    """`(*files, text, options)`: fails with what shellcheck finds in files or text."""

    def check(
        *files: str | Path, text: str | None = None, options: Sequence[str] = ()
    ) -> None:
        program = Path(sysconfig.get_path("scripts")) / "shellcheck"
        result = subprocess.run(
            [program, "--external-sources", *options, *files],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    return check
