"""docs/notebook.ipynb, executed as Jupyter does it."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from benchmarks.notebook_outputs import keep_outputs

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "notebook.ipynb"


def test_it_is_kept_with_what_it_shows():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    _, *shown = (c.outputs for c in notebook.cells if c.cell_type == "code")
    assert all(shown)
    assert "Results on the test split" in str(shown[0])
    text = NOTEBOOK.read_text()
    assert len(text) < 100_000
    assert "/tmp" not in text


def test_a_page_is_too_large_to_be_kept():
    cell = nbformat.v4.new_code_cell("1")
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": size * "x"})
        for size in (10, 100_000)
    ]
    keep_outputs(nbformat.v4.new_notebook(cells=[cell]))
    small, large = cell.outputs
    assert small.data["text/html"] == 10 * "x"
    assert large.data == {"text/plain": "(a page of 100 kB: run the cell)"}


@pytest.mark.slow
def test_it_runs_and_shows_the_table_and_the_page(tmp_path, monkeypatch):
    # As a user's kernel has it: the workers' common cache can warn (pyproject.toml).
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()
    _, trained, predicted, report = (
        cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    )
    warnings = [o.text for o in trained if o.get("name") == "stderr"]
    assert warnings == []
    texts = [o.data["text/plain"] for o in trained if o.output_type == "display_data"]
    bars = [text for text in texts if re.match(r"\w+ [━─]{20} ", text)]
    assert [bar.split()[0] for bar in bars] == ["baseline", "clone", "cross_entropy"]
    assert all("375/375  0:00:00 left" in bar and "test top-1" in bar for bar in bars)
    table = trained[-1].data["text/html"]
    assert "Results on the test split" in table
    assert all(run in table for run in ("baseline", "clone", "cross_entropy"))
    said, true, figures = predicted[0].text.splitlines()
    assert len(said.split()) == len(true.split()) == 9
    assert min(ast.literal_eval(figures).values()) > 80
    page = report[-1].data["text/html"]
    assert page.startswith("<iframe")
    assert "&lt;html" in page
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").exists()


def test_a_mistake_is_a_message_and_no_wall_of_frames(tmp_path):
    code = "import clonalnet_jax as cn\ncn.config('digits', epocs=3)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=60, resources=where, allow_errors=True).execute()
    (error,) = notebook.cells[0].outputs
    (shown,) = error.traceback
    assert shown.startswith("UserError: config.epocs")
    assert "did you mean 'epochs'?" in shown
    assert "Traceback" not in shown
