"""Options for many calls: what is in force, where, and for how long."""

from __future__ import annotations

import subprocess
import sys

import pytest
import zarr

import xharmonize as xh
from xharmonize import _progress
from xharmonize._settings import option
from xharmonize.errors import OptionError
from xharmonize.testing import example_cube


def test_an_option_holds_within_the_block():
    with xh.set_options(engine="odc", timeout=3):
        assert (option("engine"), option("timeout")) == ("odc", 3)
        with xh.set_options(engine=None):
            assert option("engine") is None
            assert option("timeout") == 3
        assert option("engine") == "odc"
    assert (option("engine"), option("timeout")) == (None, 60.0)


def test_an_option_holds_from_a_call_on():
    code = (
        "import xharmonize as xh; from xharmonize._settings import option;"
        "xh.set_options(shard=256); print(option('shard'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "256"


def test_an_error_within_the_block_restores():
    with pytest.raises(RuntimeError), xh.set_options(shard=7):
        raise RuntimeError
    assert option("shard") == 1024


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"engine": "gdal"}, "stackstac"),
        ({"shard": 0}, "positive"),
        ({"shard": True}, "positive"),
        ({"codecs": "rust"}, "zarr-python"),
        ({"compression": None}, "small, fast"),
        ({"timeout": float("inf")}, "seconds"),
        ({"progress": "yes"}, "True, False"),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(given, told):
    with pytest.raises(OptionError, match=told):
        xh.set_options(timeout=5, **given) if "timeout" not in given else xh.set_options(**given)
    assert option("timeout") == 60.0


def test_stores_have_the_shards_that_are_set(tmp_path):
    cube = example_cube(shape=(40, 40), bands=("red",))
    with xh.set_options(shard=16):
        xh.to_zarr(cube, tmp_path / "small.zarr")
        xh.to_zarr(cube, tmp_path / "given.zarr", shard=32)
    sides = {n: zarr.open_group(tmp_path / n)["reflectance"] for n in ("small.zarr", "given.zarr")}
    assert [(a.shards or a.chunks)[-1] for a in sides.values()] == [16, 32]


def test_bars_are_drawn_where_asked_for(tmp_path, capsys):
    cube = example_cube(chunks={"time": 1})
    xh.to_zarr(cube, tmp_path / "a.zarr")
    assert capsys.readouterr().err == ""  # no terminal
    with xh.set_options(progress=True):
        xh.to_zarr(cube, tmp_path / "b.zarr")
        assert "b.zarr" in capsys.readouterr().err
        xh.check_radiometry(cube, progress=False)
        assert capsys.readouterr().err == ""
    xh.check_radiometry(cube, progress=True)
    assert "100%" in capsys.readouterr().err


def test_work_within_work_has_one_bar(capsys):
    cube = example_cube(chunks={"time": 1})
    with _progress.computing("outer", True):
        xh.check_radiometry(cube, progress=True)
    told = capsys.readouterr().err
    assert "outer" in told
    assert "Comparing" not in told


def test_a_notebook_draws_a_bar_in_html(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown: list[str] = []

    class Handle:
        def update(self, what):
            shown.append(what._repr_html_())

    def keep(what, display_id):
        assert display_id
        shown.append(what._repr_html_())
        return Handle()

    monkeypatch.setattr(display, "display", keep)
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    bar = _progress.NotebookBar("Writing <a>")
    bar.update(total=4)
    bar.advance()
    bar.close()
    assert "Writing &lt;a&gt; <progress value='0' max='4'>" in shown[0]
    assert "progress" not in shown[-1]
