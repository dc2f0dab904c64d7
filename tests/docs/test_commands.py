"""Every command of the pages that starts Python runs, with little to train.

It stands here as the page has it, but for the reader's own directories, for how long is
trained and for how many seeds.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# Commands that another test runs, by what stands in them: what needs PyTorch, another
# process or files of other people.
ELSEWHERE = {
    "configs/weights.py": "interop/test_weights_page.py",
    "configs/default.py": "weights/test_published.py",
    "input_pipeline.py": "interop/test_input_benchmark.py",
    "time_to_accuracy.py": "interop/test_speed_benchmarks.py",
    "launch/local.py": "end_to_end/test_processes.py",
    "launch/cores.py": "comparing/test_gathering.py",
    "--mode=plan": "planning/test_running.py",
}
# What is replaced in a command.
SMALLER = {
    r"(compare|tune)\.methods=\"[^\"]*\"": "\\1.methods=\"('clone',)\"",
    # Where it names no methods, it trains all.
    r"compare\.seeds=\d+$": "compare.seeds=1 --config.compare.methods=\"('clone',)\"",
    r"compare\.seeds=\d+": "compare.seeds=1",
    r"--seeds=\d+": "--seeds=3",
    r"tune\.seeds=\d+": "tune.seeds=1",
    r"examples_per_class=\d+": "examples_per_class=6",
    r"epochs=\d+": "epochs=1",
    r"(--vary=[^=]+=[^,]+)\S*( --vary=\S+)*": r"\1",
    r"=(DIRECTORY|FOLDER)\b": "=images",
    r"\bBOXES\b": "boxes",
    # Stands for the outcome of a tuning.
    r'"\(what the tuning says\)"': "\"('distillation_tuned = distillation "
    "distillation.weight=0.5','RIVAL_tuned = dist dist.temperature=2',"
    "'clone_tuned = clone loss.temperature=2')\"",
}
LITTLE = ["--config.steps=2", "--config.baseline.min_top1=0"]
RESNET8 = [f"--config.{network}.model=resnet8" for network in ("baseline", "clone")]
# What is appended to a command with these words.
APPENDED = {
    "main.py --config": LITTLE,
    "--mode=compare": LITTLE,
    "--mode=tune": [*LITTLE, "--config.tune.budget=1"],
    "=configs/cifar10": ["--config.batch_size=16"],
    "=configs/sign": ["--config.batch_size=16"],
    # A ResNet-18 otherwise, of large images.
    "=configs/cifar10.py": RESNET8,
    "--mode=tune --config=configs/folder": [
        *("--config.batch_size=16", "--config.data.image_size=32", *RESNET8)
    ],
    "sensitivity.py": LITTLE,
}
# What a page's reader has done before.
BEFORE = {
    "weights": [
        "python main.py --config=configs/digits.py",
        'python main.py --config=configs/cifar10_small.py "--config.methods=()" '
        "--config.data.path=DIRECTORY --workdir=runs/cifar10_small/seed0",
    ],
}


def blocks(page, *languages):
    """The fenced blocks of a page in one of the languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(page):
    """The commands of a page, each on one line."""
    text = "".join(blocks(page, "", "sh"))
    # A line goes on after a backslash, and within quotes.
    text = re.sub(r"\s*\\\n\s*", " ", text)
    text = re.sub(r'"[^"]*"', lambda quoted: re.sub(r"\s*\n\s*", "", quoted[0]), text)
    return re.findall(r"^.*?\b(python \S+\.py.*|python -m clonalnet.*)$", text, re.M)


def run_here(page):
    """Those of a page that no other test runs."""
    return [c for c in commands(page) if not any(words in c for words in ELSEWHERE)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A directory in which the paths of the pages mean something."""
    directory = tmp_path_factory.mktemp("reader")
    for name in ("main.py", "benchmarks", "configs", "clonalnet_jax"):
        (directory / name).symlink_to(ROOT / name)
    (directory / "docs").mkdir()
    (directory / "docs" / "results").symlink_to(ROOT / "docs" / "results")
    linen, nnx, *_ = blocks(ROOT / "docs" / "networks.md", "python")
    (directory / "my_nets.py").write_text(linen + nnx)
    names = [f"class{label}" for label in range(10)]
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 25)):
        for name in names:
            folder = directory / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    boxes = directory / "boxes" / "val"
    (boxes / "images").mkdir(parents=True)
    (boxes.parent / "wnids.txt").write_text("\n".join(names))
    rows = []
    for name in names:
        image = directory / "images" / "test" / name / "0.png"
        (boxes / "images" / f"{name}.png").write_bytes(image.read_bytes())
        rows.append(f"{name}.png\t{name}\t4\t4\t27\t27\n")
    (boxes / "val_annotations.txt").write_text("".join(rows))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if run_here(p)], ids=lambda page: page.stem
)
def test_every_command_of_a_page_runs(page, reader):
    shutil.rmtree(reader / "runs", ignore_errors=True)  # of another page
    for command in [*BEFORE.get(page.stem, ()), *run_here(page)]:
        smaller = command
        for pattern, replacement in SMALLER.items():
            smaller = re.sub(pattern, replacement, smaller)
        for words, appended in APPENDED.items():
            if words in command:
                smaller = " ".join([smaller, *appended])
        # A few images are done before their program would have been optimised.
        few = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if "=images" in smaller else {}
        # By a shell, as its reader would: there are quotes and stars.
        result = subprocess.run(
            re.sub(r"^python", shlex.quote(sys.executable), smaller),
            shell=True,
            cwd=reader,
            env={**os.environ, **few, "PYTHONPATH": str(reader)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{smaller}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize(("words", "test"), ELSEWHERE.items(), ids=ELSEWHERE)
def test_what_is_run_elsewhere_is_there(words, test):
    assert any(words in command for page in PAGES for command in commands(page))
    assert (ROOT / "tests" / test).is_file()


def program_of(page, words):
    """The one program of a page that has these words."""
    [program] = [text for text in blocks(ROOT / page, "python") if words in text]
    return program


def test_the_loss_of_the_readme_is_one_per_example():
    names = {"clone_logits": np.eye(3, dtype=np.float32), "labels": np.arange(3)}
    names["baseline_logits"] = np.zeros((3, 3), np.float32)
    program = program_of("README.md", "focusing_picking_loss")
    # The reader's own network.
    program = re.sub(r"^baseline_logits = .*", "", program, flags=re.M)
    exec(compile(program, "README.md", "exec"), names)
    assert names["loss"].shape == (3,)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    ("page", "setting"),
    [
        ("README.md", {"baseline={": "baseline={'min_top1': 0, "}),
        ("docs/api.md", {"clone={": "baseline={'min_top1': 0}, clone={"}),
    ],
    ids=["readme", "api"],
)
def test_a_program_of_a_page_trains_and_predicts(
    page, setting, tmp_path, monkeypatch, reader
):
    program = program_of(page, "cn.train(")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(reader)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(40, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(40) % 4
    names = {
        "images": images,
        "labels": labels,
        "test_images": images,
        "test_labels": labels,
        "MyNet": importlib.import_module("my_nets").LinenNet,
    }
    for words, smaller in {
        "epochs=30": 'steps=2, batch_size=8, methods=("clone",)',
        **setting,
        "images = ...": "images = images",
    }.items():
        program = program.replace(words, smaller)
    exec(compile(program, page, "exec"), names)
    assert list(names["results"]) == ["baseline", "clone"]
    assert (tmp_path / "runs").is_dir()
