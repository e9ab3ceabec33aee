"""Words that a shell completes: by typer's protocol in a process of its own, and in bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from helpers.bundles import lut_card

from xharmonize.cli import completion
from xharmonize.models.item import Described, File, write_item

START = "from xharmonize.cli.start import main; main()"
HEAVY = ("xarray", "numpy", "pandas", "dask", "torch", "rasterio")
BASH = "complete_bash"


def completed(words, *, shell=BASH, **environment):
    """What a shell is answered for a line whose last word is incomplete."""
    line = " ".join(["xharmonize", *words])
    given = {
        "_XHARMONIZE_COMPLETE": shell,
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", START],
        env=os.environ | given | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    if "XHARMONIZE_MODELS" not in environment:
        assert imported & {*HEAVY} == set()
    return done.stdout.split() if shell == BASH else done.stdout


def test_options_of_all_commands_complete_everywhere():
    names = {name for names, _ in completion.GLOBAL.values() for name in names}
    for words in (["-"], ["harmonize", "-"], ["--json", "smooth", "x.zarr", "-"]):
        assert {*completed(words)} >= names
    assert completed(["harm"]) == ["harmonize"]
    assert completed(["-q", "models", "show", "x", "--js"]) == ["--json"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["harmonize", "x", "--ma"], {"--mask"}),
        (["harmonize", "x", "--model", "ch"], {"chastain-2019"}),
        (["sharpen", "x", "--model", "st"], {"starfm", "starfm-si"}),
        (["harmonize", "x", "--index", "nd"], {"ndvi", "ndwi"}),
        (["fill", "x", "--mask", "cirrus,sn"], {"cirrus,snow"}),
        (["harmonize", "x", "--to", ""], {"landsat", "sentinel-2"}),
        (["smooth", "x.zarr", "--method", "wh"], {"whittaker"}),
        (["models", "show", "hls"], {"hls-v2"}),
        (["plot", "time"], {"timeline"}),
        (["harmonize", "x", "--out", ""], set()),  # files: the shell's own matter
    ],
)
def test_values_complete(words, expected):
    assert {*completed(words)} >= expected
    assert bool(completed(words)) == bool(expected)


@pytest.mark.parametrize("shell", ["complete_zsh", "complete_fish"])
def test_other_shells_are_answered_with_the_help(shell):
    answer = completed(["harmonize", "x", "--ma"], shell=shell)
    assert "--mask" in answer
    assert "Comma-separated quality flags to mask" in answer


def test_bundles_of_the_search_path_are_models(tmp_path):
    card, file = lut_card(), File(size=1, sha256="ab" * 32)
    files = {"weights.safetensors": file, "README.md": file}
    told = Described(card=card, files=files, n_parameters=1, framework_version="2.13.0")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "item.json").write_bytes(write_item(told))
    words = ["harmonize", "x", "--model", ""]
    found = completed(words, XHARMONIZE_MODELS=str(tmp_path))
    assert found[-1] == card.name
    assert completed(words, XHARMONIZE_MODELS=str(tmp_path / "none")) == found[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_by_the_script_that_is_installed(tmp_path):
    program = tmp_path / "xharmonize"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{START}" "$@"\n')
    program.chmod(0o755)
    script = """
    eval "$(_XHARMONIZE_COMPLETE=source_bash xharmonize)"
    complete -p xharmonize >/dev/null
    COMP_WORDS=(xharmonize harmonize --ma) COMP_CWORD=2
    _xharmonize_completion xharmonize
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-euc", script],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["--mask"]
