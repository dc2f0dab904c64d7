"""Launch scripts among tools that only write down how they were called."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOOLS = (
    *("docker", "gcloud", "gcsfuse", "kubectl", "mountpoint"),
    *("sbatch", "scontrol", "srun", "sudo"),
)
_TOOL = """#!{python} -S
import json, os, sys
name = os.path.basename(sys.argv[0])
piped = "--filename=-" in sys.argv
with open({calls!r}, "a") as file:
    call = [[name, *sys.argv[1:]], sys.stdin.read() if piped else ""]
    file.write(json.dumps(call) + "\\n")
answers = json.loads(os.environ.get("ANSWERS", "{{}}"))
for words, (answer, code) in answers.items():
    if words in " ".join([name, *sys.argv[1:]]):
        print(answer)
        sys.exit(code)
"""


class Scripts:
    """Runs launch scripts where no real tool can be reached."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "calls"
        self._bin = folder / "bin"
        self._bin.mkdir()
        text = _TOOL.format(python=sys.executable, calls=str(self._log))
        for name in TOOLS:
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o755)
        self.home = folder / "home"
        self.home.mkdir()

    def run(
        self,
        script: str | Path,
        *arguments: str,
        answers: dict[str, tuple[str, int]] | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess:
        """Runs `bash script arguments...` in the checkout."""
        return subprocess.run(
            ["bash", str(script), *arguments],
            cwd=ROOT,
            env={
                "PATH": f"{self._bin}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "TMPDIR": str(self.home),
                "ANSWERS": json.dumps(answers or {}),
                **environment,
            },
            capture_output=True,
            text=True,
        )

    def calls(self) -> list[tuple[list[str], str]]:
        """How the tools were called since the last look: words and standard input."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines()
        self._log.unlink()
        return [tuple(json.loads(line)) for line in lines]


def split_commands(text: str) -> list[list[str]]:
    """Command lines as a shell reads them; a quoted word may have several lines."""
    commands, start = [], ""
    for line in text.splitlines(keepends=True):
        start += line
        try:
            commands.append(shlex.split(start))
            start = ""
        except ValueError:  # a quote that is still open
            continue
    assert not start, start
    return commands
