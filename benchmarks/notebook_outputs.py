"""Executes docs/notebook.ipynb and keeps what it shows, but for the report's page.

    python benchmarks/notebook_outputs.py

The page is too large for a repository: a line says so in its place.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
_MOST = 50_000  # Characters of an output that is kept.


def keep_outputs(notebook: nbformat.NotebookNode) -> None:
    """Drops what is too large, and what differs from machine to machine.

    Args:
      notebook: An executed notebook, which is changed.
    """
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for position, output in enumerate(cell.get("outputs", [])):
            if len(str(output)) > _MOST:
                text = f"(a page of {len(str(output)) // 1000:,} kB: run the cell)"
                cell.outputs[position] = nbformat.v4.new_output(
                    "display_data", {"text/plain": text}
                )


def main() -> None:
    """Executes it in an empty directory and writes it back."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as directory:
        where = {"metadata": {"path": directory}}
        NotebookClient(notebook, timeout=600, resources=where).execute()
    keep_outputs(notebook)
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK}: {NOTEBOOK.stat().st_size // 1000} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
