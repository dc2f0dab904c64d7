"""The plan of the house: few doors, one direction, imports that cost what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

import clonalnet_jax
from benchmarks.house import survey

# From the roof down: a room imports only what stands to its right.
ORDER = [
    ["__main__"],
    ["modes", "api"],
    ["report"],
    ["comparing", "tuning", "planning"],
    ["training"],
    ["trained"],
    ["command"],
    ["command_line"],
    ["configuration"],
    ["data", "analysis", "workdir", "weights"],
    ["runtime", "models"],
    ["rules"],
    ["losses", "state", "errors"],
]


@pytest.fixture(scope="module")
def house():
    return survey()


def test_a_newcomer_meets_few_doors(house):
    assert len(house.root) <= 10
    assert len(house.rooms) <= 22
    assert house.floors() <= 9


def test_imports_point_one_way(house):
    floor = {room: index for index, rooms in enumerate(ORDER) for room in rooms}
    assert house.rooms.keys() == floor.keys()
    climbing = [
        f"{room} imports {other}"
        for room, others in house.rooms.items()
        for other in others
        if floor[other] < floor[room]
    ]
    assert not climbing


def test_no_module_has_a_name_of_the_standard_library():
    modules = Path(clonalnet_jax.__file__).parent.rglob("*.py")
    assert not {path.stem for path in modules} & sys.stdlib_module_names


def test_a_description_of_an_argument_is_a_phrase_of_its_own(house):
    assert house.fragments == []


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("clonalnet_jax", "jax numpy flax optax orbax grain"),
        # What is wrong with JAX's own environment is said in its place, not here.
        ("clonalnet_jax.command_line", "jax flax optax orbax grain"),
        ("clonalnet_jax.losses", "flax optax chex orbax grain ml_collections PIL"),
        ("clonalnet_jax.models", "optax orbax grain tensorflow_datasets PIL"),
        ("clonalnet_jax.training.steps", "orbax grain tensorflow_datasets PIL"),
        ("clonalnet_jax.weights", "orbax grain tensorflow_datasets PIL"),
        ("clonalnet_jax.trained.classifier", "tensorflow_datasets matplotlib"),
        ("clonalnet_jax.training.story", "matplotlib scipy tensorflow torch"),
    ],
)
def test_an_import_costs_what_it_says(module, unneeded):
    program = f"import {module}, sys; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not set(unneeded.split()) & set(output.split())
