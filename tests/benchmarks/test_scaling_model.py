"""The model on paper: the published table, and the counts behind it."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import scaling_model
from clonalnet_jax.models import create_model
from clonalnet_jax.models.complexity import count_multiply_adds

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def work():
    """Of a ResNet-50 clone."""
    return scaling_model.count_work()


@pytest.mark.slow
def test_the_published_table_is_what_the_script_prints(work, monkeypatch):
    monkeypatch.setattr(scaling_model, "count_work", lambda: work)
    assert scaling_model.table() in (DOCS / "scaling.md").read_text()


def test_decoding_rates_are_those_of_the_data_guide():
    text = (DOCS / "data.md").read_text()
    for files, rate in (
        ("original", scaling_model.ORIGINAL),
        ("prepared", scaling_model.PREPARED),
    ):
        assert f"| {files} | training | 2 | {2 * rate:,.0f} |" in text


@pytest.mark.slow
def test_a_step_is_one_forward_and_backward_pass_and_a_baseline(work):
    model = create_model("resnet50", num_classes=scaling_model.CLASSES)
    forward = 2 * count_multiply_adds(model, (224, 224, 3))
    # Torchvision's counts of parameters and of the multiply-adds of a forward pass.
    assert work.parameters == 25_557_032
    assert forward == pytest.approx(2 * 4.089e9, rel=1e-3)
    # Backward is twice the forward pass; the images themselves need no gradient.
    assert work.flops == pytest.approx(4 * forward, rel=0.05)
    assert work.batch_norms == 53


@pytest.mark.slow
def test_communication_counts_more_the_fewer_images_a_device_has(work):
    def part(batch):
        machine = dataclasses.replace(scaling_model.MACHINES[1], batch=batch)
        column = scaling_model.estimate(work, machine)
        return float(column["of it communication, if nothing overlaps"].rstrip("%"))

    assert part(8) > part(64) > part(256)


@pytest.mark.slow
def test_a_single_device_has_nobody_to_reduce_with(work):
    machine = dataclasses.replace(scaling_model.MACHINES[0], devices=1)
    column = scaling_model.estimate(work, machine)
    assert column["all-reduce, sent by each device"] == "0 MB"
    assert column["of it communication, if nothing overlaps"] == "0%"
