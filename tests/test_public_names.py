"""`import clonalnet_jax as cn`: what it gives, and what it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import clonalnet_jax as cn

ROOT = Path(__file__).parent.parent


def run_python(code):
    """Runs code in a process of its own; returns what it printed."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_import_alone_imports_no_library():
    heavy = ["jax", "numpy", "flax", "absl", "ml_collections", "PIL"]
    code = f"import clonalnet_jax, sys; print(sorted(set({heavy}) & set(sys.modules)))"
    assert run_python(code) == "[]\n"


@pytest.mark.parametrize("name", cn.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(cn, name).__doc__
    assert name in dir(cn)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = cn.trian


def test_a_loss_needs_none_of_the_program():
    others = ["clonalnet_jax.api", "flax", "orbax", "tensorflow_datasets", "PIL"]
    code = (
        "import clonalnet_jax as cn, sys; cn.focusing_picking_loss\n"
        f"print(sorted(set({others}) & set(sys.modules)))"
    )
    assert run_python(code) == "[]\n"


def test_the_page_of_the_documentation_has_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text()
    found = re.findall(r"^::: clonalnet_jax\.(\w+)$", text, re.MULTILINE)
    assert sorted(found) == sorted(cn.__all__)
