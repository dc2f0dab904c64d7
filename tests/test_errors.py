"""Messages are safe to print, however strange the name that they show."""

import pickle

from clonalnet_jax.errors import UserError, printable


def test_control_characters_are_shown_instead_of_obeyed():
    assert printable("\x1b[2Jred\x07.png") == "\\x1b[2Jred\\x07.png"
    assert printable("\u202etxt.png") == "\\u202etxt.png"
    assert printable("é 猫\nnext") == "é 猫\nnext"


def test_a_very_long_name_makes_a_short_message():
    error = UserError("x" * 5_000_000, got="a", expected="b", remedy="c")
    assert len(str(error)) < 3000
    assert "more" in str(error)


def test_an_error_comes_back_from_a_worker_as_it_was():
    error = UserError("culprit", got="a", expected="b", remedy="c")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (UserError, str(error))
