"""The command line, run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from xharmonize.cli.app import main


def call(capsys, *arguments: str | Path) -> tuple[int, str, str]:
    """Run a command; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err
