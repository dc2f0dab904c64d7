"""The tables of the protocol's series say what the seeds' files say."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import protocol

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()


@pytest.fixture(params=["sign_digits", "sign_digits_half"])
def seeds(request):
    return protocol.read_series(ROOT / "docs" / "results" / request.param)


def test_every_seed_of_the_protocol_is_there(seeds):
    assert [figures.seed for figures in seeds] == list(range(15))


def test_the_page_has_the_tables_that_the_command_prints(seeds):
    for line in protocol.runs_table(seeds, "dist_tuned").splitlines()[2:]:
        assert line in PAGE


def test_the_decision_corrects_for_every_series_and_reference(seeds):
    table = protocol.decision_table([seeds, seeds], "clone_tuned", "dist_tuned")
    rows = [line.split("|") for line in table.splitlines()[2:]]
    assert len(rows) == 6

    def top1(run):
        return np.array([figures.metrics[run]["top1"] for figures in seeds])

    smallest = min(
        stats.ttest_rel(top1("clone_tuned"), top1(reference)).pvalue
        for reference in ("baseline", "cross_entropy", "dist_tuned")
    )
    assert min(float(row[4]) for row in rows) == pytest.approx(6 * smallest, rel=0.06)
