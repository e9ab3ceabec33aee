"""The Python blocks of the tutorial and the guides run, each page from an empty folder."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import xharmonize as xh
from xharmonize import errors
from xharmonize.errors import RadiometryWarning
from xharmonize.sensors import registry as sensors
from xharmonize.simulate import Simulation, write_catalog

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md")])
BLOCK = re.compile(
    r"(?P<skip><!-- needs (the network|a cluster) -->\n)?"
    r"^(?P<indent> *)```(?:python|\{code-cell\} ipython3)\n(?: *:[\w-]+:.*\n)*"  # options of a cell
    r"(?P<code>(?s:.*?))^ *```$",
    re.MULTILINE,
)
REAL = "flanders-2018"
"""Real observations that a page may open by this name; skipped where there are none."""
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(page: Path) -> list[str]:
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if match["skip"] is None:
            width = len(match["indent"])
            found.append("\n".join(line[width:] for line in match["code"].splitlines()))
    return found


@pytest.fixture(scope="module")
def example_scenes(tmp_path_factory) -> Path:
    """Catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(480, 480),
        start="2022-06-01",
        end="2022-06-16",
        cloudiness=0.1,
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(DOCS))
)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, request):
    for extra in ("pystac", "stackstac", "matplotlib"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    # What a page registers ends with it.
    monkeypatch.setattr(sensors, "_SENSORS", dict(sensors._SENSORS))
    if any(REAL in code for code in blocks(page)):
        (tmp_path / REAL).symlink_to(request.getfixturevalue("data") / REAL)
    names: dict = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RadiometryWarning)
        for code in blocks(page):
            exec(compile(code, str(page), "exec"), names)


@pytest.mark.slow
def test_the_cluster_page_runs_as_a_script(tmp_path):
    for extra in ("pystac", "stackstac", "distributed"):
        pytest.importorskip(extra)
    code = "\n".join(blocks(DOCS / "how-to" / "run-on-a-cluster.md"))
    (tmp_path / "flat.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "flat.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert xh.open_series(tmp_path / "s2_as_l8.zarr").sizes["time"] > 0


@pytest.mark.slow
def test_the_examples_of_the_readme_run(example_scenes, tmp_path, monkeypatch):
    for extra in ("stackstac", "torch", "safetensors"):
        pytest.importorskip(extra)
    from helpers.generators import generator, small_card

    monkeypatch.chdir(tmp_path)
    west, south, east, north = 3.0215, 50.8115, 3.0235, 50.8135
    bbox = [3.0195, 50.8106, 3.0259, 50.8146]  # enough to register
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    fields = [{"type": "Polygon", "coordinates": [ring]}]
    names = {"catalog": example_scenes, "bbox": bbox, "fields": fields}
    (tmp_path / "models").mkdir()
    generator(tmp_path, small_card("small-conv")).save("models/small")
    for code in blocks(DOCS.parent / "README.md"):
        exec(compile(code, "README.md", "exec"), names)
    assert set(np.unique(xh.open_series("ndvi.zarr")["sensor"])) == {
        "landsat-c2-l2",
        "sentinel-2-l2a",
    }
    assert set(xh.open_series("s2_as_l8.zarr")["bandpass"].values) == {"oli"}
    assert {"rmse", "r2", "sam", "ergas"} <= set(names["scores"])
    assert {"identity", "hls-v2", "ols"} <= set(names["training"].scores.index.get_level_values(0))
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "fields.csv").exists()


@pytest.mark.parametrize("name", ["dense_ndvi.py", "fit_a_line.py"])
def test_the_examples_run(name, example_scenes, tmp_path, capsys):
    result = {"dense_ndvi.py": "ndvi.zarr", "fit_a_line.py": "fit.zarr"}[name]
    script = runpy.run_path(str(DOCS.parent / "examples" / name))
    script["main"](str(example_scenes), str(tmp_path / result))
    assert (tmp_path / result).exists()
    assert capsys.readouterr().out


def test_every_link_leads_to_a_file():
    broken = [
        f"{page.relative_to(DOCS.parent)}: {href}"
        for page in [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
        for href in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / href).exists()
    ]
    assert broken == []


UNLISTED = {"__version__", "sensors.UNKNOWN", "sensors.SEPARATOR"}
MODULES = {name for name in xh.__all__ if inspect.ismodule(getattr(xh, name))}
AUTOSUMMARY = re.compile(r"^.. currentmodule:: (\S+)\n.*?:toctree: \w+\n\n(.*?)^```", re.M | re.S)


def test_the_reference_names_every_public_name_and_error():
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    listed = {
        f"{module}.{name}".removeprefix("xharmonize.")
        for module, names in AUTOSUMMARY.findall(page)
        for name in names.split()
    }
    table = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    ours = {name for name in vars(errors) if name.startswith(("X",)) or name.endswith("Error")}
    modules = (xh.crops, xh.sensors, xh.series)  # metrics have a page of their own
    verbs = set(xh.__all__)  # written without their module
    inner = {f"{m.__name__.split('.')[1]}.{n}" for m in modules for n in {*m.__all__} - verbs}
    assert [name for name in sorted(ours) if f"`{name}`" not in table] == []
    public = (set(xh.__all__) | inner) - ours - MODULES - UNLISTED
    assert sorted(public - listed) == []


def test_the_command_line_page_and_what_shells_complete_are_up_to_date():
    made = runpy.run_path(str(DOCS / "make_cli_reference.py"))
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == made["make_page"](), "run: python docs/make_cli_reference.py"
    table = made["TABLE"].read_text(encoding="utf-8")
    assert table == made["make_table"](), "run: python docs/make_cli_reference.py"


def test_every_test_that_a_page_names_exists():
    there = {
        name
        for file in (DOCS.parent / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = {
        (str(page.relative_to(DOCS)), name)
        for page in DOCS.rglob("*.md")
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    }
    assert sorted(one for one in named if one[1] not in there) == []
