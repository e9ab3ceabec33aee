"""The command line, called as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.app import main

COMMANDS = ["demo", "harmonize", "info", "models", "simulate"]


def call(capsys, *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_installed_command_prints_its_version():
    command = Path(sys.executable).with_name("xharmonize")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == xh.__version__


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_states_the_exit_codes(capsys):
    assert "Exit codes: 0 done" in call(capsys, "--help")[1].replace("\n ", " ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["harmonize", "c.json"], "nothing to write"),
        (["harmonize", "c.json", "--out", "a", "--upsert", "--overwrite"], "give one"),
        (["harmonize", "c.json", "--out", "a", "--bbox", "1,2"], "not four numbers"),
        (["harmonize", "c.json", "--out", "a", "--to", "mars"], "mars"),
        (["harmonise"], "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments, complaint):
    code, _, err = call(capsys, *arguments)
    assert code == console.USAGE
    assert complaint in " ".join(err.replace("│", " ").split())


def test_an_error_of_ours_is_one_line_and_exit_code_1(capsys, tmp_path):
    code, out, err = call(capsys, "info", tmp_path / "nothing.json")
    assert code == console.FAILED
    assert out == ""
    assert err.startswith("error: ")
    assert "nothing.json" in err
    assert len(err.strip().splitlines()) == 1


def test_an_unreachable_api_is_named(capsys):
    code, _, err = call(capsys, "info", "http://127.0.0.1:9/")
    assert code == console.FAILED
    assert "127.0.0.1:9" in err


def test_models_are_listed_with_their_source(capsys):
    code, out, _ = call(capsys, "models")
    assert code == 0
    for name in xh.list_models():
        assert name in out
    assert "10.1016" in out
