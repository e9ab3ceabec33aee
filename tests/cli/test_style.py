"""What every command takes (--json, -q, -v), and Ctrl-C at any moment."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.commands import call

from xharmonize.cli import console
from xharmonize.simulate import Simulation, write_catalog


def test_json_is_one_object_with_the_tables(capsys):
    for arguments in (("--json", "models"), ("models", "--json")):
        code, out, _ = call(capsys, *arguments)
        told = json.loads(out)
        assert (code, told["exit_code"], told["error"]) == (0, 0, None)
        (table,) = told["tables"]
        assert {"model": "hls-v2"}.items() <= next(
            row for row in table["rows"] if row["model"] == "hls-v2"
        ).items()
        assert any("Claverie" in text for text in told["messages"])


def test_json_has_the_fields_of_an_error(capsys):
    code, out, err = call(capsys, "run", "nowhere.toml", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"]) == (1, 1)
    assert told["error"]["class"] == "OptionError"
    assert told["error"]["cure"] == "xharmonize init writes an example"
    assert err.startswith("error: nowhere.toml cannot be read")
    code, out, _ = call(capsys, "no-such-command", "--json")
    assert (code, json.loads(out)["exit_code"]) == (2, 2)


def test_missing_numbers_are_null():
    assert [console._json(v) for v in (float("nan"), 1.5, True, Path("a"))] == [
        None,
        1.5,
        True,
        "a",
    ]


def test_quiet_prints_errors_only(capsys):
    assert call(capsys, "models", "--quiet")[:2] == (0, "")
    code, out, err = call(capsys, "run", "nowhere.toml", "-q")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


def test_verbose_says_where_an_error_comes_from(capsys):
    assert "Traceback" in call(capsys, "-v", "run", "nowhere.toml")[2]
    assert "Traceback" not in call(capsys, "run", "nowhere.toml")[2]  # forgotten by the next


def test_what_follows_two_dashes_is_no_option(capsys):
    assert console.begin(["show", "--", "-v"]) == ["show", "--", "-v"]
    assert not console.STYLE.is_verbose


def test_completion_is_offered(capsys):
    assert "--install-completion" in call(capsys, "--help")[1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 4.0, 6.0, 9.0])
def test_an_interrupt_at_any_moment_is_one_line(seconds, tmp_path, scenes):
    options = {"--source-collection": "sentinel-2-l2a", "--target-collection": "landsat-c2-l2",
               "--index": "ndvi", "--out": str(tmp_path / "ndvi.zarr")}  # fmt: skip
    command = [sys.executable, "-m", "xharmonize", "harmonize", scenes]
    running = subprocess.Popen(
        [*command, *(word for pair in options.items() for word in pair)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(seconds)
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode in (0, 130), err[-1500:]  # it may have been faster
    assert "Traceback" not in err
    if running.returncode == 130:
        assert err.splitlines()[-1].startswith("interrupted: ")


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_recipe_draws_bars_on_a_terminal(quiet, tmp_path, scenes):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'source = {{items = "{scenes}", collection = "landsat-c2-l2"}}\n'
        f'output = {{folder = "{tmp_path / "out"}", figures = false, report = false}}\n'
    )
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "xharmonize", *quiet, "run", str(recipe)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    drawn = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while part := os.read(master, 4096):
            drawn += part
    os.close(master)
    assert running.wait(timeout=60) == 0, drawn.decode()
    assert (b"series.zarr" in drawn and b"100%" in drawn) == (not quiet)


def test_an_interrupt_while_a_text_runs_is_130_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, sys\n"
        "class Interrupting(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'xharmonize.cli.app':\n"
        "            exec('raise KeyboardInterrupt')\n"
        "sys.meta_path.insert(0, Interrupting())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "xharmonize", "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing had begun\n")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> str:
    place = Simulation(
        center=(501_600, 5_628_960), size=(960, 960), start="2022-06-01", end="2022-06-20"
    )
    return str(write_catalog(place, tmp_path_factory.mktemp("scenes")))
