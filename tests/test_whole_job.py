"""The example that does a recipe's job gives what the recipe gives, in twenty lines."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[1] / "examples" / "whole_job.py"


def test_the_job_has_twenty_lines():
    (function,) = (
        node for node in ast.parse(EXAMPLE.read_text()).body if isinstance(node, ast.FunctionDef)
    )
    assert len(function.body) - 1 <= 20  # statements, without the docstring


def test_the_example_gives_what_the_recipe_gives(tmp_path):
    for extra in ("pystac", "matplotlib"):
        pytest.importorskip(extra)
    place = Simulation(
        seed=3, center=(501_600, 5_628_960), size=(300, 300), start="2022-06-01", end="2022-07-05"
    )
    catalog = str(write_catalog(place, tmp_path / "scenes"))
    west, south, east, north = 3.0215, 50.8115, 3.0245, 50.8135
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    fields = tmp_path / "fields.geojson"
    fields.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    runpy.run_path(str(EXAMPLE))["main"](catalog, str(fields), str(tmp_path / "python"))
    source = {"items": catalog, "bands": ["red", "nir08"]}
    done = xh.run(
        {
            "source": {**source, "collection": "sentinel-2-l2a"},
            "target": {**source, "collection": "landsat-c2-l2"},
            "smooth": {"step": "10D"},
            "phenology": {},
            "table": {"fields": str(fields), "buffer": -10},
            "output": {"folder": str(tmp_path / "recipe"), "cogs": True},
        }
    )
    assert "fields.csv" in done.written
    for name in ("series", "smooth", "seasons"):
        ours, theirs = (
            xh.open_series(tmp_path / one / f"{name}.zarr").compute()
            for one in ("python", "recipe")
        )
        for variable in ours.data_vars if isinstance(ours, xr.Dataset) else ():
            np.testing.assert_array_equal(ours[variable], theirs[variable], err_msg=variable)
    tables = [pd.read_csv(tmp_path / one / "fields.csv") for one in ("python", "recipe")]
    pd.testing.assert_frame_equal(*tables)
    assert (tmp_path / "python" / "report.html").is_file()
    assert (tmp_path / "python" / "cogs" / "catalog.json").is_file()
