"""Text that other people chose: safe in a terminal, a message and a spreadsheet."""

import os
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonalnet_jax.errors import UserError, csv_cell, displayable, displayable_lines

ANYTHING = st.text(st.characters())  # surrogates and control characters, too


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\r\nlines\t", r"two\x0d\x0alines\x09"),
        ("\x9b2J", r"\x9b2J"),
        ("gnp\u202egpj.exe", r"gnp\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("\ud800", r"\ud800"),
        ("犬 é 👩\u200d🔬 $x^2$ [red] <b>", "犬 é 👩\u200d🔬 $x^2$ [red] <b>"),
    ],
)
def test_what_steers_a_terminal_is_escaped_and_all_else_stays(name, shown):
    assert displayable(name) == shown


@given(ANYTHING)
def test_whatever_is_shown_is_one_printable_line_of_utf8(name):
    shown = displayable(name)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert displayable(shown) == shown


def test_a_name_of_five_megabytes_keeps_its_two_ends_and_says_its_length():
    shown = displayable("begin" + "x" * 5_000_000 + "end")
    assert len(shown) <= 200
    assert shown.startswith("beginx")
    assert shown.endswith("xend")
    assert "5,000,008 characters" in shown


def test_our_own_lines_stay_lines():
    assert displayable_lines("one\ntwo\x1b\n") == "one\ntwo\\x1b\n"


def test_a_message_shows_no_control_character_and_is_short():
    error = UserError("a\x1b[0m", got="b" * 5_000_000, expected="\x07", remedy="\r")
    assert len(str(error)) < 10_000
    assert not any(ord(c) < 32 for c in str(error) if c != "\n")
    assert error.culprit == "a\x1b[0m"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_can_be_about_what_the_user_knows_by_another_name():
    error = UserError("resnet8: width", got="0", expected="1 or more", remedy="set it")
    named = error.about("config.clone.options.width")
    assert named.culprit == "config.clone.options.width"
    assert str(named) == str(error).replace(error.culprit, named.culprit)
    assert (named.got, named.expected, named.remedy) == ("0", "1 or more", "set it")


def test_a_name_with_line_breaks_cannot_forge_a_field():
    error = UserError("file", got="x\n  try:      rm -rf ~", expected="e", remedy="r")
    fields = [line for line in str(error).splitlines() if line.startswith("  try:")]
    assert fields == ["  try:      r"]
    assert "x\n" + " " * 12 + "  try:      rm" in str(error)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", " =1"])
def test_a_name_is_no_formula_to_a_spreadsheet(name):
    assert csv_cell(name) == "'" + name


@given(ANYTHING)
def test_no_cell_begins_a_formula(name):
    assert not csv_cell(name).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    if name.isalnum():
        assert csv_cell(name) == name
