"""The tables of the protocol's series say what the seeds' files say."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import protocol
from clonalnet_jax.comparing.gathering import read_seeds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()


DIRECTORY = ROOT / "docs" / "results" / "sign_digits"


@pytest.fixture(scope="module")
def result():
    return protocol.read_series(DIRECTORY, "dist_tuned")


@pytest.mark.parametrize(
    ("series", "rival", "seeds"),
    [
        ("digits", "distillation", range(10)),
        ("sign_digits", "dist_tuned", range(15)),
        ("sign_digits_half", "dist_tuned", range(15)),
        ("cifar10", "dkd_tuned", range(10, 20)),
    ],
)
def test_the_page_has_the_tables_of_every_seed(series, rival, seeds):
    found = protocol.read_series(DIRECTORY.parent / series, rival)
    assert found["seeds"] == list(seeds)
    for line in protocol.runs_table(found, rival).splitlines():
        assert line in PAGE


def test_the_page_has_the_decision():
    rivals = {"sign_digits": "dist_tuned", "cifar10": "dkd_tuned"}
    found = [
        protocol.read_series(DIRECTORY.parent / series, rival)
        for series, rival in rivals.items()
    ]
    assert protocol.decision_table(found, "clone_tuned", [*rivals.values()]) in PAGE


def test_the_decision_corrects_for_every_series_and_reference(result):
    other = protocol.read_series(DIRECTORY, "distillation_tuned")
    rivals = ["dist_tuned", "distillation_tuned"]
    table = protocol.decision_table([result, other], "clone_tuned", rivals)
    rows = [line.split("|") for line in table.splitlines()[2:]]
    named = [f"minus {one}" for one in ("baseline", "cross_entropy")]
    assert [row[2].strip() for row in rows] == [
        *(*named, "minus dist_tuned"),
        *(*named, "minus distillation_tuned"),
    ]

    def top1(run):
        return np.array(
            [figures.metrics[run]["top1"] for figures in read_seeds([DIRECTORY])]
        )

    smallest = min(
        stats.ttest_rel(top1("clone_tuned"), top1(reference)).pvalue
        for reference in ("baseline", "cross_entropy", "dist_tuned")
    )
    assert min(float(row[4]) for row in rows) == pytest.approx(6 * smallest, rel=0.06)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["docs/results/sign_digits", "--rival=nope"], "nope is none of"),
        (["docs", "--rival=dist_tuned"], "no seed_figures.json"),
        (["docs", "--rival", "dist_tuned", "dkd_tuned"], "2 rivals for 1 series"),
    ],
)
def test_what_is_not_there_is_named(monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["protocol.py", *arguments])
    with pytest.raises(SystemExit):
        protocol.main()
    assert said in capsys.readouterr().err


def test_too_few_seeds_to_test_are_named(monkeypatch, capsys, tmp_path):
    for seed in ("seed0", "seed1"):
        shutil.copytree(DIRECTORY / seed, tmp_path / seed)
    monkeypatch.setattr(
        "sys.argv", ["protocol.py", str(tmp_path), "--rival=dist_tuned"]
    )
    with pytest.raises(SystemExit):
        protocol.main()
    assert "has 2 of the 3 seeds needed" in capsys.readouterr().err
