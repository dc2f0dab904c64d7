"""The losses need JAX and jaxtyping alone, and none of the rest of the package."""

import shutil
import subprocess
import sys
from pathlib import Path

from clonalnet_jax import losses

FOLDER = Path(losses.__file__).parent

LIST_IMPORTS = """
import sys
import jax, jaxtyping
before = set(sys.modules)
import {name} as losses
assert losses.focusing_picking_loss(jax.numpy.zeros(3), jax.numpy.zeros(3), 1) > 0
print(*sorted(set(sys.modules) - before))
"""


def imported_by(name, path):
    """The modules that an import adds to those of JAX and jaxtyping."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS.format(name=name)],
        cwd=path,
        env={"JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
        text=True,
    )
    return {x for x in done.stdout.split() if x.split(".")[0] not in KNOWN}


KNOWN = sys.stdlib_module_names | {"jax", "jaxlib", "jaxtyping", "numpy"}


def test_an_import_of_the_losses_loads_jax_and_jaxtyping_alone():
    added = imported_by("clonalnet_jax.losses", FOLDER.parent.parent)
    assert {x.split(".")[0] for x in added} == {"clonalnet_jax"}


def test_the_folder_can_be_copied_into_other_projects(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "theirs" / "clonal_losses")
    added = imported_by("theirs.clonal_losses", tmp_path)
    assert {x.split(".")[0] for x in added} == {"theirs"}
