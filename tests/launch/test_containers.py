"""The Dockerfiles: what they name exists, and .dockerignore lets it through."""

import configparser
import json
import re
from pathlib import Path

import pytest
from launching import ROOT
from packaging.requirements import Requirement

DOCKERFILES = ("launch/gpu.Dockerfile", "launch/tpu.Dockerfile")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = SETUP["options.extras_require"]


def instructions(dockerfile):
    """(instruction, rest) of a Dockerfile, continued lines joined."""
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def copied(dockerfile):
    """The paths that it copies."""
    found = []
    for name, rest in instructions(dockerfile):
        if name == "COPY":
            found += rest.split()[:-1]
    return found


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_exists_and_is_not_ignored(dockerfile):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    paths = copied(dockerfile)
    assert all((ROOT / path).exists() for path in paths)
    assert set(paths) == allowed


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_all_that_installing_and_running_read(dockerfile):
    paths = copied(dockerfile)
    metadata = SETUP["metadata"]
    readme = metadata["long_description"].removeprefix("file:").strip()
    packages = ("clonalnet_jax", "configs")
    settings = ("pyproject.toml", "setup.cfg", "setup.py")
    named = (*settings, readme, metadata["license_files"], *packages)
    assert set(named) <= set(paths)
    [entry] = [rest for name, rest in instructions(dockerfile) if name == "ENTRYPOINT"]
    python, program = json.loads(entry)
    assert (python, program in paths) == ("python", True)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_extras_exist_and_bring_the_device_to_jax(dockerfile):
    lines = instructions(dockerfile)
    [default] = [rest for name, rest in lines if name == "ARG"] or [""]
    [install] = [rest for name, rest in lines if name == "RUN"]
    [extra] = re.findall(r"\.\[([^]]+)\]", install)
    if extra == "$EXTRA":
        extra = default.removeprefix("EXTRA=")
    device = Path(dockerfile).stem
    assert extra == {"gpu": "cuda", "tpu": "tpu"}[device]
    assert extra in EXTRAS


@pytest.mark.parametrize(
    ("extra", "brings"), [("cuda", "cuda13"), ("cuda12", "cuda12"), ("tpu", "tpu")]
)
def test_the_extras_bring_the_jax_that_the_package_needs(extra, brings):
    [plain] = [
        Requirement(line)
        for line in SETUP["options"]["install_requires"].splitlines()
        if re.match(r"jax\b", line)
    ]
    requirement = Requirement(EXTRAS[extra].strip())
    assert (requirement.name, requirement.extras) == ("jax", {brings})
    assert requirement.specifier == plain.specifier


def test_python_is_one_that_the_package_supports():
    for dockerfile in DOCKERFILES:
        [(_, image)] = [i for i in instructions(dockerfile) if i[0] == "FROM"]
        minor = re.match(r"python:(3\.\d+)-", image)[1]
        assert f"Python :: {minor}" in SETUP["metadata"]["classifiers"]
