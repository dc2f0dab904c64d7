"""From counts to times, and the search for the largest batch."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clonalnet_jax.planning import estimates
from clonalnet_jax.planning.hlo import Collective, Contents
from clonalnet_jax.planning.targets import parse_topology


def contents(**changed):
    of_nothing = {
        "launches": 1, "fusions": 0, "copies": 0, "traffic": 0, "padding": {},
        "cycles": None, "parts": {}, "collectives": [],
    }  # fmt: skip
    return Contents(**{**of_nothing, **changed})


def time_of(name="h100:1", **changed):
    asked = {"operations": 0.0, "dtype": "bfloat16", **changed}
    return estimates.time_step(parse_topology(name), **asked)


def test_the_term_that_takes_longer_binds():
    busy = time_of(operations=989.4e9, contents=contents(traffic=3350))
    assert busy.step == pytest.approx(1e-3)
    assert busy.rests_on.startswith("operations")
    waiting = time_of(operations=989.4, contents=contents(traffic=3_350_000_000))
    assert waiting.step == pytest.approx(1e-3)
    assert waiting.rests_on.startswith("memory traffic")


def test_padding_travels_too():
    alone, padded = (
        time_of("v5e:2x2", contents=contents(traffic=8000, padding=padding)).traffic
        for padding in ({}, {64: 6000, 3: 2000})
    )
    assert padded == pytest.approx(2 * alone)


def test_float32_takes_longer_on_a_gpu_and_as_long_on_a_tpu():
    for name, factor in (("h100:1", 2.0), ("v5e:2x2", 1.0)):
        fast, slow = (
            time_of(name, operations=1e12, dtype=dtype).step
            for dtype in ("bfloat16", "float32")
        )
        assert slow == pytest.approx(factor * fast)


def test_cycles_go_before_bounds():
    found = time_of("v5e:2x2", contents=contents(cycles=1_500_000, traffic=8))
    assert found.step == pytest.approx(1e-3)
    assert "assumed clock" in found.rests_on


def test_an_all_reduce_crosses_the_slowest_link_twice():
    def sending(name):
        sent = contents(collectives=[Collective("all-reduce", "f32", 1, 450_000_000)])
        return time_of(name, contents=sent).collectives

    assert sending("h100:1") == 0.0
    assert sending("h100:8") == pytest.approx(2 * 7 / 8 * 1e-3)
    # Between hosts a GPU has a part of the host's network alone.
    assert sending("h100:16") == pytest.approx(2 * 15 / 16 * 1e-3 * 450 / 25)


@settings(deadline=None)
@given(
    fixed=st.integers(0, 10**6),
    slope=st.integers(1, 10**4),
    bend=st.floats(-0.05, 0.05),
    usable=st.integers(10**4, 10**8),
    start=st.integers(1, 200),
    multiple=st.sampled_from([1, 8, 64]),
)
def test_the_batch_that_is_found_fits_and_the_other_does_not(
    fixed, slope, bend, usable, start, multiple
):
    tried = {}

    def need(batch):
        assert batch not in tried, "nothing is compiled twice"
        assert batch > 0
        assert batch % multiple == 0
        tried[batch] = int(fixed + slope * batch * (1 + bend * (batch % 7) / 7))
        # A compiler may also give up without a figure.
        return tried[batch] if tried[batch] <= 1.5 * usable else None

    most = 10**6 * multiple
    found = estimates.find_largest(
        need, start=start * multiple, multiple=multiple, usable=usable, most=most
    )
    assert len(tried) <= 8
    if found.batch_size is not None:
        assert tried[found.batch_size] == found.needed <= usable
    if found.too_large is not None:
        assert tried[found.too_large] > usable
        assert (found.batch_size or 0) < found.too_large


@pytest.mark.parametrize(("fixed", "slope"), [(1000, 7), (0, 1), (50_000, 900)])
def test_a_straight_line_is_met_within_a_sixteenth(fixed, slope):
    usable = 1_000_000
    found = estimates.find_largest(
        lambda batch: fixed + slope * batch,
        start=64,
        multiple=8,
        usable=usable,
        most=10**9,
    )
    best = (usable - fixed) // slope
    assert best * 15 / 16 - 8 <= found.batch_size <= best


def test_where_the_compiler_gives_up_the_search_closes_in():
    """As on a v5e, where nothing is said of what does not fit."""
    limit, tried = 17_000, []

    def need(batch):
        tried.append(batch)
        # Small batches leave the compiler room that it takes.
        return None if batch > limit else 1000 + batch // 10

    found = estimates.find_largest(
        need, start=1024, multiple=128, usable=16_000, most=10**6
    )
    assert max(tried) <= 8 * limit
    assert 0.75 * limit < found.batch_size <= limit < found.too_large


def test_more_images_than_there_are_are_no_batch():
    found = estimates.find_largest(
        lambda batch: batch, start=64, multiple=8, usable=10**9, most=1000
    )
    assert found == (1000, 1000, None)


def test_input_needs_cores_of_each_host():
    found = estimates.input_needs(parse_topology("h100:16"), 2 * 953.0)
    assert found["images_per_second"] == 953.0
    assert found["cores"] == pytest.approx(2.0)
    assert found["cores_there"] == 104
    # A single GPU comes with its share of the host.
    assert estimates.input_needs(parse_topology("h100:1"), 1.0)["cores_there"] == 13


def test_the_rate_of_decoding_is_that_of_the_data_guide():
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    rate = 2 * estimates.DECODED_PER_CORE
    assert f"| original | training | 2 | {rate:,.0f} |" in text
