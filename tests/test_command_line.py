"""The command line: what it says of itself, and which mistakes it names."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clonalnet_jax.configs import default

from clonalnet_jax.workdir.files import flatten
from tests.marks import quickly

ROOT = Path(__file__).parent.parent
# A dry run, of which nothing is ever reached in these tests.
DRY = ("--config=digits", "--config.data.synthetic=True", "--config.steps=1")


def run(*arguments, code=2, program=("-m", "clonalnet_jax"), cwd=ROOT, **variables):
    """Runs the program; returns what it printed, after the check of its exit code."""
    result = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert result.returncode == code, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def test_the_help_has_every_flag_and_every_key_with_default_and_meaning():
    output = run("--help", code=0)
    for flag in ("--config=CONFIG", "--workdir", "--mode", "--format", "--run"):
        assert f"  {flag}" in output
    for key, value in flatten(default.get_config().to_dict()).items():
        assert f"  --config.{key}={value}\n" in output
    text = " ".join(output.split())
    assert "--config.batch_size=128 The number of images in one step" in text
    # Of several lines above the key, in default.py.
    assert "computed in, one after the other, to save memory. Batch norm sees" in text


def test_main_is_the_same_program():
    ours = run("--help", code=0).splitlines()
    assert run("--help", code=0, program=("main.py",)).splitlines()[-50:] == ours[-50:]


def test_a_flag_that_may_be_repeated_has_what_is_given_once(tmp_path):
    (tmp_path / "program.py").write_text(
        "from absl import flags\n"
        "from clonalnet_jax.command import start\n"
        "vary = flags.DEFINE_multi_string('vary', [], 'Of this program.')\n"
        "start(lambda config, arguments: print(vary.value) or 0)\n"
    )
    program = (str(tmp_path / "program.py"),)
    output = run("--config=digits", "--vary=a", "--vary=b", code=0, program=program)
    assert output.splitlines()[-1] == "['a', 'b']"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        (("--mode=train", "--workdir=x"), "--config is missing"),
        (("--config",), "--config has no value"),
        (("--config=",), "--config has no value"),
        (("--config=digts",), "did you mean 'digits'"),
        (("--wrokdir=x",), "Did you mean: workdir"),
        ((*DRY, "--config.clone.width=8"), "--config.clone.options.width"),
        ((*DRY, "--config.clone.modle=x"), "did you mean 'model'"),
        ((*DRY, "--config.seed=2.5"), "expected a whole number"),
        ((*DRY, "--config.seed=None"), "this key cannot be None"),
        ((*DRY, "--config.methods=None"), "this key cannot be None"),
        ((*DRY, "--config.data.flip=perhaps"), "expected True or False"),
        ((*DRY, "--config.loss.temperature=warm"), "expected a number"),
        (("--mode=predict", "--workdir=/nowhere", "x.png"), "no config.json"),
    ],
)
def test_a_mistake_is_one_message(arguments, message):
    output = run(*arguments)
    assert output.startswith("ERROR: ")
    assert message in output


READ = """
import sys
from pathlib import Path
from clonalnet_jax.command_line import parse
config, rest = parse(sys.argv, takes_arguments=lambda: True, config_in=lambda: None)
print(config.data.image_size, config.steps, config.data.path, config.data.on_device)
print(config.clone.options.to_dict(), config.seed, config.methods, rest)
"""


def test_values_are_unset_changed_and_added():
    output = run(
        *("picture.png", "--config=imagenet", "--config.data.image_size=None"),
        *("--config.steps=None", "--config.data.path=None", "--config.seed", "3"),
        *("--config.data.on_device=None", "--config.clone.options.width=8"),
        *("--config.clone.options.small_stem=True", "--config.methods=('clone',)"),
        program=("-c", READ),
        code=0,
    )
    first, second = output.splitlines()
    assert first == "None None None None"
    options = "{'small_stem': True, 'width': 8}"
    assert second == f"{options} 3 ('clone',) ['picture.png']"


def test_the_last_config_and_those_of_a_flag_file_count(tmp_path):
    flags = tmp_path / "flags"
    flags.write_text("--config=imagenet\n--config.seed=4\n")
    output = run("--config=digits", f"--flagfile={flags}", program=("-c", READ), code=0)
    assert "4 ('clone',)" in output


@pytest.mark.parametrize(
    ("variable", "value"),
    quickly(
        [
            ("JAX_PLATFORMS", "cuda"),
            ("JAX_PLATFORMS", "bogus"),
            ("JAX_NUM_CPU_DEVICES", "abc"),
            ("JAX_ENABLE_X64", "perhaps"),
            ("SLURM_NTASKS", "abc"),
            ("JAX_NUM_PROCESSES", "abc"),
        ],
        [("JAX_PLATFORMS", "bogus"), ("SLURM_NTASKS", "abc")],
    ),
)
def test_a_wrong_environment_is_one_message_that_names_it(variable, value, tmp_path):
    others = {"SLURM_STEP_ID": "0"} if variable == "SLURM_NTASKS" else {}
    if variable == "JAX_NUM_PROCESSES":
        others["JAX_COORDINATOR_ADDRESS"] = "localhost:1"
    environment = {variable: value, **others}
    output = run(*DRY, f"--workdir={tmp_path / 'w'}", **environment)
    assert "ERROR: " in output
    assert variable in output
    assert value in output
    assert not (tmp_path / "w").exists()


def test_a_reader_that_has_seen_enough_ends_it_silently():
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "clonalnet_jax", "--help"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


STARTS = "import sys; print('started', flush=True); import runpy; "
STARTS += "sys.argv[1:1] = []; runpy.run_module('clonalnet_jax', run_name='__main__')"


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.8, 1.5])
def test_an_interrupt_during_the_imports_is_one_line(seconds, tmp_path):
    command = [sys.executable, "-c", STARTS, *DRY, f"--workdir={tmp_path / 'w'}"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "ERROR: Interrupted" in output
    assert "Traceback" not in output


FOREIGN = """
import os, signal, sys
del os.sched_getaffinity, signal.SIGUSR1
sys.modules["fcntl"] = None  # its import fails
from clonalnet_jax.runtime.cores import usable_cores
from clonalnet_jax.runtime import interruption
from clonalnet_jax.workdir import lock
from clonalnet_jax.training import experiment, story
import clonalnet_jax.report, clonalnet_jax.comparing.running
assert usable_cores() == os.cpu_count()
interruption.listen()
print("works")
"""


@pytest.mark.slow
def test_it_starts_where_fcntl_affinity_and_sigusr1_do_not_exist():
    assert run(program=("-c", FOREIGN), code=0).endswith("works\n")
