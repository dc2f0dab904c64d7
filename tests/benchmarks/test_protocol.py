"""The tables of the protocol's series say what the seeds' files say."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import protocol
from clonalnet_jax.comparing.gathering import read_seeds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()


@pytest.fixture(scope="module", params=["sign_digits", "sign_digits_half"])
def directory(request):
    return ROOT / "docs" / "results" / request.param


@pytest.fixture(scope="module")
def result(directory):
    return protocol.read_series(directory, "dist_tuned")


def test_every_seed_of_the_protocol_is_there(result):
    assert result["seeds"] == list(range(15))


def test_the_page_has_the_tables_that_the_command_prints(result):
    for line in protocol.runs_table(result, "dist_tuned").splitlines()[2:]:
        assert line in PAGE


def test_the_decision_corrects_for_every_series_and_reference(directory, result):
    table = protocol.decision_table([result, result], "clone_tuned", "dist_tuned")
    rows = [line.split("|") for line in table.splitlines()[2:]]
    assert len(rows) == 6

    def top1(run):
        return np.array(
            [figures.metrics[run]["top1"] for figures in read_seeds([directory])]
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
    ],
)
def test_what_is_not_there_is_named(monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["protocol.py", *arguments])
    with pytest.raises(SystemExit):
        protocol.main()
    assert said in capsys.readouterr().err
