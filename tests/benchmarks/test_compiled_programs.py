"""The page of compiled programs says what the compilers' rows say."""

from pathlib import Path

import pytest

from benchmarks import compiled

PAGE = (Path(__file__).parents[2] / "docs" / "compiled.md").read_text()


def test_the_page_has_the_tables_that_the_command_prints():
    for line in compiled.tables(compiled.read_rows()).splitlines():
        assert line in PAGE


def test_a_row_that_is_there_is_not_compiled_again(monkeypatch):
    def compile_again(*key):
        raise AssertionError(key)

    monkeypatch.setattr(compiled, "measure", compile_again)
    monkeypatch.setattr("sys.argv", ["compiled.py", "--networks", "ResNet-20"])
    compiled.main()


def test_an_unknown_network_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compiled.py", "--networks", "ResNet-21"])
    with pytest.raises(SystemExit):
        compiled.main()
    assert "ResNet-21: not among ResNet-20" in capsys.readouterr().err


def test_a_config_is_that_of_the_network_and_the_options():
    config = compiled.make_config(
        "ResNet-50", batch_size=64, dtype="bfloat16", options={"partition.fsdp": True}
    )
    assert config.baseline.model == config.clone.model == "resnet50"
    assert config.partition.fsdp is True
    assert tuple(config.data.synthetic_shape) == (224, 224, 3)
