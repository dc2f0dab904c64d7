"""What is installed: the package, its configs, its program."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by setuptools where it is at hand, without network."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in COPIED:
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("clonalnet_jax", "configs"):
        (source / name).symlink_to(ROOT / name)
    code = (
        f"from setuptools.build_meta import build_wheel; build_wheel({str(target)!r})"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=source, check=True, stdout=-3
    )
    [path] = target.iterdir()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target / "site")
    return target / "site"


@pytest.mark.slow
def test_the_wheel_has_every_module_and_config_and_no_package_beside(wheel):
    for name, place in (("clonalnet_jax", "."), ("configs", "clonalnet_jax")):
        for path in (ROOT / name).rglob("*.py"):
            assert (wheel / place / path.relative_to(ROOT)).exists(), path
    for name in ("py.typed", "report/page.html", "report/style.css"):
        assert (wheel / "clonalnet_jax" / name).exists()
    found = {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"}
    assert found == {"clonalnet_jax"}
    [points] = wheel.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read(points)
    program = parser["console_scripts"]["clonalnet-jax"]
    assert program == "clonalnet_jax.__main__:main"


@pytest.mark.slow
def test_the_installed_program_finds_its_configs_in_any_directory(wheel, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "import clonalnet_jax as cn\n"
        "import clonalnet_jax.configs.digits as digits\n"
        "print(digits.__file__, cn.config('configs/digits.py').data.name)"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, text=True
    )
    expected = wheel / "clonalnet_jax" / "configs" / "digits.py"
    assert output.split() == [str(expected), "digits"]


def test_each_checkout_takes_its_own_configs():
    code = "import clonalnet_jax.configs as configs; print(configs.__file__)"
    output = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert Path(output.strip()) == ROOT / "configs" / "__init__.py"
