"""Predictions for people, for tables and for programs."""

import csv
import io
import json
from pathlib import Path

import pytest

from clonalnet_jax.errors import UserError
from clonalnet_jax.trained.predict import Prediction
from clonalnet_jax.trained.printing import (
    run_predict,
    write_csv,
    write_json,
    write_text,
)

NAMES = ["=cmd|' /C calc'!A0", "a,b", "[red]", "é\x1b[2J", "-1"]
PREDICTIONS = [
    Prediction(Path("é.png"), [(name, 0.2) for name in NAMES], [("+x", 0.75)]),
    Prediction(Path("@bad.png"), [], [], "no image\x07"),
    Prediction(Path("last.png"), [("a,b", 1.0)], []),
]


def test_csv_has_a_row_for_each_class_and_nothing_that_a_spreadsheet_runs(capsys):
    assert write_csv(PREDICTIONS) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5 + 1 + 1 + 1
    assert [row["class"] for row in rows[:3]] == [f"'{NAMES[0]}", "a,b", "[red]"]
    assert [row["rank"] for row in rows[:5]] == list("12345")
    assert (rows[5]["kind"], rows[5]["class"]) == ("confusing", "'+x")
    assert (rows[6]["image"], rows[6]["kind"]) == ("'@bad.png", "error")
    cells = [cell for row in rows for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert not any("\x1b" in cell or "\x07" in cell for cell in cells)


def test_json_has_an_object_a_line_with_the_names_as_they_are(capsys):
    assert write_json(PREDICTIONS) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == ["é.png", "@bad.png", "last.png"]
    assert [name for name, _ in lines[0]["top"]] == NAMES
    assert lines[1] == {
        "path": "@bad.png",
        "top": [],
        "confusing": [],
        "error": "no image\x07",
    }


@pytest.mark.parametrize("columns", ["20", "80"])
def test_every_file_can_be_told_apart_in_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert write_text(PREDICTIONS) == 1
    output = capsys.readouterr().out
    lines = output.splitlines()
    heads = [line for line in lines if not line.startswith("  ")]
    assert heads == ["é.png", "SKIPPED @bad.png: no image\\x07", "last.png"]
    assert "   20.0 %  [red]" in lines
    assert "\x1b" not in output


def test_an_unknown_format_is_named_before_any_network_is_read():
    with pytest.raises(UserError, match="did you mean 'json'"):
        run_predict(None, Path("nowhere"), [], run="clone", format="jsn")
