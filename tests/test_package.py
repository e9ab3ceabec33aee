"""What is published agrees with itself: version, dependencies, workflows, recipe, entry points."""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import xharmonize as xh
from xharmonize._optional import require_installed
from xharmonize.errors import MissingDependencyError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASE = {r.name: r.specifier for r in map(Requirement, PROJECT["project"]["dependencies"])}
CONDA = {"dask": "dask-core", "lazy-loader": "lazy_loader"}


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def test_every_file_names_the_same_version():
    script = runpy.run_path(str(ROOT / ".ci" / "release_notes.py"))
    assert set(script["versions"]().values()) == {xh.__version__}
    assert "Stability" in script["notes"](xh.__version__)
    with pytest.raises(SystemExit, match="the release is 9"):
        script["main"]("9.9.9")


def test_the_oldest_dependencies_are_the_lower_bounds():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert set(pinned) == set(BASE)
    for name, version in pinned.items():
        lower = next(Version(s.version) for s in BASE[name] if s.operator == ">=")
        assert Version(version).release[: len(lower.release)] == lower.release, name
        assert Version(version) in BASE[name]


def test_the_conda_recipe_has_the_base_dependencies():
    recipe = read_yaml(".github/conda/recipe.yaml")
    assert recipe["context"]["version"] == xh.__version__
    python, *run = recipe["requirements"]["run"]
    assert python.startswith("python >=")
    found = {name: bound for name, _, bound in (line.partition(" ") for line in run)}
    expected = {CONDA.get(name, name): set(str(s).split(",")) for name, s in BASE.items()}
    assert {name: set(bound.split(",")) for name, bound in found.items()} == expected


def test_the_conda_recipe_renders():
    rattler = pytest.importorskip("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(str(ROOT / ".github/conda/recipe.yaml"))
    rendered = [variant.recipe.to_dict() for variant in recipe.render()]
    assert [one["package"]["name"] for one in rendered] == ["xharmonize"]


def test_each_python_that_is_promised_is_tried():
    promised = {
        found[1]
        for line in PROJECT["project"]["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    }
    matrix = read_yaml(".github/workflows/ci.yml")["jobs"]["package"]["strategy"]["matrix"]
    assert promised <= set(matrix["python"])
    for extra in matrix["include"]:
        assert extra["constraints"] == "" or (ROOT / extra["constraints"]).is_file()


def test_a_release_needs_no_token():
    jobs = read_yaml(".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"


def test_entry_points_lead_somewhere():
    points = PROJECT["project"]["entry-points"]
    targets = [t for group in points.values() for t in group.values()]
    for target in [*targets, *PROJECT["project"]["scripts"].values()]:
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))


def test_a_missing_extra_is_named_without_an_import():
    require_installed("numpy", extra="base")
    assert find_spec("no_such_module") is None
    with pytest.raises(MissingDependencyError, match=r"xharmonize\[plot\]"):
        require_installed("numpy", "no_such_module", extra="plot")
