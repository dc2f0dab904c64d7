"""The parts of a report that can be wrong without looking wrong."""

import csv
import io
import itertools
import json
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from clonalnet_jax.analysis.calibration import cross_fit, fit_temperature
from clonalnet_jax.analysis.reliability import reliability
from clonalnet_jax.report import headline
from clonalnet_jax.report.calibrated import calibration_section, scaled
from clonalnet_jax.report.evidence import Evidence
from clonalnet_jax.report.figures import (
    draw_curves,
    draw_differences,
    draw_gains,
    draw_matrix,
    draw_pairs,
    short,
)
from clonalnet_jax.report.gallery import overlay
from clonalnet_jax.report.rendering import LIGHT, render
from clonalnet_jax.report.words import signed

# What others may call a class or a run, and what must reach neither page nor figure.
ODD_NAMES = (
    "\x1b]0;title\x07",
    "\x00",
    "two\nlines",
    "gnp\u202egpj",
    "a\ud800b",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "begin" + "x" * 5_000_000,
)
UNSAFE = {chr(code) for code in range(32)} - set("\n\t ") | set("\u202e\ud800\x7f")


class Workdir(NamedTuple):
    """As much of an experiment as a headline looks at."""

    workdir: object


def evidence_of(before, after, tmp_path):
    """Two classes; the networks are right where the flags say so."""
    before, after = np.array(before, bool), np.array(after, bool)
    labels = np.zeros(len(before), int)
    logits = {
        "baseline": np.stack([before, ~before], axis=-1).astype(np.float32),
        "clone": np.stack([after, ~after], axis=-1).astype(np.float32),
    }
    positions = np.arange(len(labels))
    return Evidence(tmp_path, Workdir(tmp_path), "clone", logits, labels, positions, {})


@pytest.mark.parametrize(
    ("mended", "broken", "p", "words"),
    [
        (9, 3, "0.15", ["6 more of 100", "mends 9 and breaks 3", "No difference"]),
        (3, 9, "0.15", ["6 fewer of 100", "mends 3 and breaks 9", "No difference"]),
        (4, 4, "1", ["as many of 100", "No difference shown"]),
        (0, 0, "1", ["as many of 100", "No difference shown"]),
        (12, 0, "0.00049", ["12 more of 100", "more than chance"]),
    ],
)
def test_a_headline_claims_no_more_than_its_test(tmp_path, mended, broken, p, words):
    """The p-values are those of a sign test: binomial, two-sided, one half."""
    before = [False] * mended + [True] * (100 - mended)
    after = [True] * (100 - broken) + [False] * broken
    made = headline.make_headline(evidence_of(before, after, tmp_path), tmp_path)
    for part in words:
        assert part in made.verdict
    assert "more than chance" not in made.verdict or "No difference" not in made.verdict
    assert {tile.label: tile.value for tile in made.tiles}["McNemar's p"] == p
    assert any("one seed is one seed" in caveat.lower() for caveat in made.caveats)


def test_a_heat_map_brightens_what_it_is_about():
    pixels = np.full((40, 60, 3), 120, np.uint8)
    heat = np.zeros((4, 6))
    heat[0, 5] = 1
    shown = overlay(pixels, heat)
    assert shown.shape == pixels.shape
    light = shown.astype(int).sum(axis=-1)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert y < 10
    assert x >= 50
    assert light[0, -1] > light[-1, 0] + 200


def test_figures_are_the_same_files_every_time(tmp_path):
    draw = draw_pairs([("$a$", "b"), ("c", "犬")], [3, 2], [1, 2])
    first, second = (render(draw, tmp_path / name) for name in ("first", "second"))
    assert first[:2] == second[:2]
    assert (first.name, second.name) == ("first", "second")
    assert first.light != first.dark
    for suffix in ("svg", "png", "csv"):
        contents = {path.read_bytes() for path in tmp_path.glob(f"*.{suffix}")}
        assert len(contents) == 1
    with Image.open(tmp_path / "first.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_long_names_are_not_drawn_over_the_figure(tmp_path):
    """The axes keep most of the width, whatever the names."""
    figure = Figure(figsize=(4.8, 3), layout="constrained")
    axes = figure.subplots()
    draw_gains(["x" * 200, "y"], [1.0, -2.0]).draw(axes, LIGHT)
    figure.draw_without_rendering()
    assert axes.get_position().width > 0.5
    assert axes.get_tightbbox().x0 >= 0


def test_many_runs_leave_room_for_their_curves(recwarn):
    names = ["baseline", "clone", *(f"clone_without_a_term_{k}" for k in range(8))]
    curves = {name: ([1, 2, 3], [1.0, 2.0, 3.0]) for name in names}
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    draw_curves(curves, "clone", "top-1 %").draw(axes, LIGHT)
    figure.draw_without_rendering()
    assert axes.get_position().width > 0.6
    assert not recwarn.list


@pytest.mark.parametrize("length", [5, 24, 25, 200])
def test_a_name_is_shortened_in_its_middle(length):
    name = "".join(chr(ord("a") + k % 26) for k in range(length))
    shown = short(name)
    assert len(shown) <= 24
    assert shown == name or (shown[:5] == name[:5] and shown[-5:] == name[-5:])


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.25, "+1.2"), (-0.5, "\N{MINUS SIGN}0.5"), (0.0, "0.0"), (-0.04, "0.0")],
)
def test_differences_carry_their_sign_but_zero_has_none(value, text):
    assert signed(value, 1) == text


def comparison(verdict, mean, low, high, p):
    """What `compare.json` holds, as much of it as is shown."""
    top1 = {"mean": mean, "low": low, "high": high, "p_t": p, "p_holm": p}
    tests = [{"gained": 7, "lost": 1, "p": 0.04}, {"gained": 4, "lost": 8, "p": 0.4}]
    difference = {
        "top1": {**top1, "p_sign_flip": 0.25},
        "mcnemar": tests,
        "verdict": verdict,
    }
    spread = None if p is None else 0.25
    names = ("top1", "top5", "nll", "nll_scaled", "ece", "ece_scaled")
    metrics = {name: {"mean": 50.0, "standard_error": spread} for name in names}
    return {
        "seeds": [0] if p is None else [0, 1, 2],
        "caption": "What was tested, and how.",
        "methods": dict.fromkeys(("baseline", "cross_entropy", "clone"), metrics),
        "differences": {"cross_entropy": {"baseline": difference, "clone": difference}},
    }


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ("higher", 1.5, 0.5, 2.5, 0.01),
            "against plain retraining +1.50 points, a gain",
        ),
        (
            ("lower", -1.5, -2.5, -0.5, 0.01),
            "against plain retraining \N{MINUS SIGN}1.50 points, a loss",
        ),
        (
            ("no difference shown", 0.5, -0.5, 1.5, 0.3),
            "against plain retraining +0.50 points, no difference shown",
        ),
        (
            ("one seed: not tested", 0.5, None, None, None),
            "Over one seed, the clone against plain retraining +0.50 points, one seed",
        ),
    ],
)
def test_a_comparison_s_verdict_is_the_headline(tmp_path, found, words):
    evidence = evidence_of([True] * 9, [True] * 9, tmp_path)
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(comparison(*found)))
    made = headline.make_headline(evidence, tmp_path)
    assert words in made.verdict
    assert made.method == "What was tested, and how."
    assert made.tables[1].rows[1][-1] == "11 / 9; 1 of 2"
    assert made.tables[1].rows[1][3] == found[0]
    assert (made.figure is None) == (found[-1] is None)
    assert (tmp_path / "differences.png").exists() == (found[-1] is not None)
    # A run that was not compared has the headline of its one seed.
    alone = evidence._replace(
        clone="dkd", logits={**evidence.logits, "dkd": evidence.logits["clone"]}
    )
    assert "one seed" in headline.make_headline(alone, tmp_path).verdict


@pytest.mark.slow
def test_calibration_is_that_of_the_comparison(tmp_path, rng):
    """Held-out images give the temperature where there are any, else the halves do."""
    logits = 5 * rng.standard_normal((60, 3)).astype(np.float32)
    both = {"baseline": logits, "clone": logits[::-1].copy()}
    labels, positions = rng.integers(3, size=60), np.arange(60)
    evidence = Evidence(tmp_path, None, "clone", both, labels, positions, {})
    for run, x in both.items():
        np.testing.assert_array_equal(scaled(evidence, run), cross_fit(x, labels))
    made = calibration_section(evidence, tmp_path)
    assert "the other, both ways" in made["summary"]
    titles = [column.title for column in made["table"].columns]
    assert titles == ["run", "ece %", "ece %, scaled", "best temperature", "aurc %"]
    for run, before, after, *_ in made["table"].rows:
        assert before == f"{reliability(both[run], labels).ece:.2f}"
        assert after == f"{reliability(cross_fit(both[run], labels), labels).ece:.2f}"
        assert float(after) < float(before)
    aside = 3 * rng.standard_normal((40, 3)), rng.integers(3, size=40)
    held = evidence._replace(holdout={"baseline": aside, "clone": aside})
    np.testing.assert_allclose(
        scaled(held, "clone"), both["clone"] / fit_temperature(*aside), rtol=1e-6
    )
    assert "held-out" in calibration_section(held, tmp_path)["summary"]


VALUES = [1.0] * len(ODD_NAMES)


@pytest.mark.parametrize(
    "draw",
    [
        draw_gains(ODD_NAMES, VALUES),
        draw_pairs([(name, "b") for name in ODD_NAMES], VALUES, VALUES),
        draw_matrix(ODD_NAMES, np.eye(len(ODD_NAMES)), top=1),
        draw_curves(dict.fromkeys(ODD_NAMES, ([1], [1.0])), "", ODD_NAMES[0]),
        draw_differences(
            ODD_NAMES,
            VALUES,
            [(0.0, 2.0)] * len(VALUES),
            [True] * len(VALUES),
            ODD_NAMES[1],
        ),
    ],
    ids=["gains", "pairs", "matrix", "curves", "differences"],
)
def test_odd_names_make_well_formed_figures(draw, tmp_path):
    rendered = render(draw, tmp_path / "figure")
    shown = "".join(ElementTree.fromstring(rendered.light).itertext())
    assert not UNSAFE & set(rendered.light.decode() + shown)
    assert len(rendered.light) < 200_000
    text = (tmp_path / "figure.csv").read_text(encoding="utf-8")
    limit = csv.field_size_limit(10**7)
    headings, *rows = csv.reader(io.StringIO(text, newline=""))
    csv.field_size_limit(limit)
    assert len(rows) == len(draw.rows) > 0
    assert {len(row) for row in rows} == {len(headings)}
    cells = [*headings, *itertools.chain(*rows)]
    assert not UNSAFE & set("".join(cells))
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)


def test_a_figures_numbers_lie_beside_it(tmp_path):
    render(draw_pairs([("cat", "dog"), ("a,b", "c")], [3, 2], [1, 2]), tmp_path / "x")
    assert (tmp_path / "x.csv").read_text().splitlines() == [
        "class,other class,baseline,clone",
        "cat,dog,3,1",
        '"a,b",c,2,2',
    ]
