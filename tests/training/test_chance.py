"""A network that knows no more than chance is named beside its figures."""

from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from clonalnet_jax.training import story

LABELS = np.repeat(np.arange(10), 100)


def warnings_about(synthetic=False, **row):
    warnings = []
    experiment = SimpleNamespace(
        config=ConfigDict({"data": {"synthetic": synthetic}}),
        dataset=SimpleNamespace(
            test=SimpleNamespace(labels=lambda: LABELS), num_classes=10
        ),
        journal=SimpleNamespace(warn=warnings.append),
    )
    story._warn_of_chance(experiment, "clone", row)
    return warnings


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"top1": 10.0, "nll": 2.3}, "top-1 10.00 %"),
        ({"top1": 90.0, "nll": 4e6}, "nll 4e+06"),
        ({"top1": float("nan"), "nll": 1.0}, "top-1 nan"),
        ({"top1": 90.0, "nll": float("nan")}, "nll nan"),
    ],
)
def test_figures_of_one_that_knows_nothing_are_warned_of(row, said):
    (warning,) = warnings_about(**row)
    assert warning.startswith("clone: ")
    assert said in warning


def test_other_figures_and_dry_runs_are_not_warned_of():
    assert warnings_about(top1=90.0, nll=0.4) == []
    assert warnings_about(top1=1.0, nll=9.0, synthetic=True) == []
