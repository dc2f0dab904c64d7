"""Damages of every kind of file: the same figures, a message, or set aside."""

import functools
import itertools
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.damages import DAMAGES, files_of, kind_of, small_config
from benchmarks.given import make_workdir
from benchmarks.uses import Outcome, Uses
from clonalnet_jax import models
from clonalnet_jax.errors import UserError
from clonalnet_jax.report import rendering

HASH = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def uses(tmp_path_factory, one_device):
    """A small workdir, and all its uses."""
    tiny = functools.partial(models.ResNet, (1,), small_stem=True, width=4)
    workdir = tmp_path_factory.mktemp("damaged") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._MODELS, "resnet8", tiny)
        patch.setattr(rendering, "_export", rendering._export)
        make_workdir(small_config(), workdir, comparison=False)
        yield Uses(small_config(), workdir, draw_anew=False)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("results.json", "results.json"),
        (f"clone/4/model/d/{HASH}", "RUN/LAST/ITEM/d/*"),
        ("baseline/2/training/_METADATA", "RUN/EARLIER/ITEM/_METADATA"),
        ("predictions/baseline.safetensors", "predictions/RUN.safetensors"),
        ("tensorboard/clone/events.out.tfevents.1.vm.2", "tensorboard/RUN/events.*"),
        ("report", "report/"),
    ],
)
def test_a_kind_is_the_path_without_what_differs(path, kind):
    assert kind_of(Path(path)) == kind


def test_a_table_has_a_row_a_kind_and_counts_what_failed():
    record = {
        faults.Case("finished", f"clone/4/model/d/{HASH}", "cut"): Outcome("set aside"),
        faults.Case("finished", "clone/4/training/d/" + HASH, "cut"): Outcome("FAULT"),
        faults.Case("unfinished", "lock", "removed"): Outcome("same"),
    }
    lines = faults.tabulate(record).splitlines()
    assert lines[2].startswith("| `RUN/LAST/ITEM/d/*` | 1 set aside, 1 FAULT |")
    assert lines[3] == "| `lock` (unfinished) |  |  |  |  | 1 same |"
    assert len(lines) == 5


@pytest.mark.slow
def test_no_damage_of_any_kind_of_file_is_a_fault(uses):
    of_kinds = {kind_of(path): path for path in files_of(uses.copy.with_name("whole"))}
    assert len(of_kinds) > 30
    # The benchmark tries every damage of every file; here they take turns.
    found = {
        (str(path), damage): uses.attempt(path, damage)
        for path, damage in zip(of_kinds.values(), itertools.cycle(DAMAGES))
    }
    assert {k: v for k, v in found.items() if v.word == "FAULT"} == {}
    assert "set aside" in {outcome.word for outcome in found.values()}


def other_figures():
    return ["something else"]


def traceback():
    raise KeyError("of a library")


def message_about_another():
    raise UserError("lock", got="this", expected="that", remedy="nothing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use", "detail"),
    [
        (other_figures, "predict gives something else without a word"),
        (traceback, "predict: KeyError"),
        (message_about_another, "names another: predict: lock"),
    ],
)
def test_a_fault_is_seen(uses, monkeypatch, use, detail):
    monkeypatch.setattr(uses, "_predicted", use)
    outcome = uses.attempt(Path("environment.json"), "removed")
    assert outcome.word == "FAULT"
    assert detail in outcome.detail
