"""The layers: what may import what, read from the syntax trees, inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xharmonize"
BASE = {
    "_cache",
    "_optional",
    "_owner",
    "_progress",
    "_replace",
    "_settings",
    "_shown",
    "_urls",
    "errors",
    "options",
    "types",
}
ORDER = [
    "sensors",
    "kernels",
    "models",
    "cube",
    "io",
    "tiles",
    "metrics",
    "harmonizers",
    "fusion",
    "series",
    "crops",
    "training",
    "accessor",
    "plot",
    "report",
    "recipe",
    "region",
    "cli",
]
# Packages beside the order, with the only parts of ours they may use.
BESIDE = {
    "simulate": {"sensors", "kernels"},
    "testing": {"sensors", "models", "cube", "io", "simulate"},
    "cluster": {"models"},
}
USERS = {"simulate": {"cli", "testing"}, "testing": set[str](), "cluster": {"training", "cli"}}
INDEPENDENT = [{"accessor", "plot", "report"}]
DEFERRED = {
    "cupy",
    "dask_cuda",
    "distributed",
    "matplotlib",
    "odc",
    "pydantic",
    "pydantic_core",
    "pystac",
    "pystac_client",
    "rasterio",
    "sklearn",
    "stackstac",
    "torch",
    "zarr",
}
# Files that are themselves imported inside functions only: classes that extend others' classes.
AT_LOAD = {"plot/figure.py": {"matplotlib"}, "recipe/settings.py": {"pydantic"}}
# Grids are what every cube has: `odc.geo` is pyproj and shapely, and loads no rasterio.
LIGHT = {"odc.geo"}
FORBIDDEN_IN = {"kernels": {"xarray", "dask", "pandas"}, "models": {"xarray", "dask"}}

FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Name of the layer a file belongs to; empty for the package's own `__init__`."""
    head = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return {"__init__": "", "__main__": "cli"}.get(head, head)


def imports(path: Path) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    """Yield each module a file imports, absolute, wherever the statement stands."""
    yield from _imports_of(path, _nodes(path.read_text(encoding="utf-8"))[0])


def imports_when_loaded(path: Path) -> set[str]:
    """Modules that a file imports outside functions and ``if TYPE_CHECKING``."""
    nodes = _nodes(path.read_text(encoding="utf-8"))[1]
    return {name for name, _ in _imports_of(path, nodes)}


@cache
def _nodes(text: str) -> tuple[list[ast.AST], list[ast.AST]]:
    """Nodes that may import, of a whole file and of what runs when it is loaded: parsed once."""
    tree = ast.parse(text)
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    every, loaded = ast.walk(tree), _run_when_loaded(tree)
    return tuple([node for node in nodes if isinstance(node, kinds)] for nodes in (every, loaded))


def _run_when_loaded(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_when_loaded(child)


def _imports_of(path: Path, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    module = ["xharmonize", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*module[: -node.level], *filter(None, [node.module])] if node.level else []
            source = ".".join(base) if node.level else str(node.module)
            yield source, node
            yield from ((f"{source}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if "import" in str(getattr(name, "id", name)) and isinstance(node.args[0].value, str):
                yield node.args[0].value, node


def own_parts(path: Path) -> set[str]:
    """Layers of this package that a file imports; '*' for the package itself."""
    found = set()
    for name, _ in imports(path):
        head, _, rest = name.partition(".")
        if head == "xharmonize" and (name == "xharmonize" or rest):
            found.add(rest.partition(".")[0] or "*")
    parts = {p for p in found if p == "*" or p in {*ORDER, *BESIDE, *BASE}}
    return parts - ({"*"} if parts - {"*"} else set())


def allowed(part: str) -> set[str]:
    """Layers that a layer may import."""
    if part in BASE:
        return BASE
    if part in BESIDE:
        return BASE | BESIDE[part] | {part}
    below = set(ORDER[: ORDER.index(part) + 1])
    for group in INDEPENDENT:
        if part in group:
            below -= group - {part}
    users = {name for name, who in USERS.items() if part in who}
    whole = {"*"} if part in ("accessor", "plot", "report", "cli") else set()
    return BASE | below | users | whole


def faults(path: Path) -> list[str]:
    """What a file imports that its layer may not, a sentence each."""
    part, name = part_of(path), path.relative_to(PACKAGE).as_posix()
    if not part:
        return []
    if part not in {*ORDER, *BESIDE, *BASE}:
        return [f"{name}: {part} has no layer, give it one here"]
    banned = FORBIDDEN_IN.get(part, set())
    strangers = {head for head, *_ in (m.split(".") for m, _ in imports(path)) if head in banned}
    wrong = sorted((own_parts(path) - allowed(part)) | strangers)
    return [f"{name}: {part} imports {other}" for other in wrong]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_towards_the_start_of_the_list(path):
    assert faults(path) == []


def is_heavy(name: str, heavy: set[str]) -> bool:
    """Whether a module is one of these or lies in one, and in none that is light."""
    parts = name.split(".")
    whole = {".".join(parts[:k]) for k in range(1, len(parts) + 1)}
    return bool(whole & heavy) and not whole & LIGHT


def runs_networks(path: Path) -> bool:
    """Whether a file of `training` is one that is loaded when a network is trained, not before."""
    heavy = {
        "augment",
        "checkpoint",
        "constants",
        "feed",
        "job",
        "loop",
        "losses",
        "protocol",
        "ranks",
    }
    is_method = path.parent.name == "methods" and path.stem != "__init__"
    return part_of(path) == "training" and (is_method or path.stem in heavy)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path):
    heavy = DEFERRED | (set() if part_of(path) == "kernels" else {"numba"})
    if part_of(path) == "models" or runs_networks(path):
        heavy = heavy - {"torch"}
    if part_of(path) == "cluster":  # a plugin that workers unpickle is a class of a module
        heavy = heavy - {"distributed"}
    heavy = heavy - AT_LOAD.get(path.relative_to(PACKAGE).as_posix(), set())
    wrong = {name for name in imports_when_loaded(path) if is_heavy(name, heavy)}
    assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)} when it is loaded"


def test_distributed_is_imported_by_launch_and_cluster_only():
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for name, _ in imports(path)
        if name.partition(".")[0] == "distributed"
    }
    assert {u for u in users if not u.startswith(("cluster/", "training/on_workers"))} == set()


BROKEN = {
    "sensors/upward.py": ("from ..series import densify\n", "sensors imports series"),
    "cube/late.py": ("def f():\n    from ..io.zarr import store\n", "cube imports io"),
    "cube/early.py": ("import xharmonize.io.stac.cube\n", "cube imports io"),
    "kernels/labels.py": ("import xarray as xr\n", "kernels imports xarray"),
    "models/graph.py": ("def f():\n    import dask.array as da\n", "models imports dask"),
    "harmonizers/many.py": ("from xharmonize import fusion\n", "harmonizers imports fusion"),
    "fusion/later.py": ("from .. import series\n", "fusion imports series"),
    "series/trained.py": ("from xharmonize.training import loop\n", "series imports training"),
    "training/public.py": ("import xharmonize as xh\n", "training imports *"),
    "plot/beside.py": ("from ..report import write\n", "plot imports report"),
    "tiles/named.py": ("import_module('xharmonize.crops')\n", "tiles imports crops"),
    "io/demo.py": ("def f():\n    from ..simulate import catalog\n", "io imports simulate"),
    "errors.py": ("from .sensors import spec\n", "errors imports sensors"),
    "extras/new.py": ("", "extras has no layer, give it one here"),
}
SOUND = {
    "series/below.py": "from ..fusion import sharpen\nfrom ..errors import GridError\n",
    "fusion/below.py": "def f():\n    from ..harmonizers import base\n    import xarray\n",
    "io/below.py": "from ..cube import geobox\nfrom .stac import cube\n",
    "cli/all.py": "import xharmonize as xh\nfrom ..simulate import catalog\n",
    "__init__.py": "import lazy_loader\n",
}


@pytest.mark.parametrize("name", [*BROKEN, *SOUND])
def test_a_broken_layer_is_named_and_a_sound_one_is_not(name, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    text, fault = BROKEN.get(name) or (SOUND[name], None)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert faults(file) == ([f"{name}: {fault}"] if fault else [])


def test_the_reader_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    file = tmp_path / "kernels" / "sample.py"
    file.parent.mkdir()
    file.write_text(
        "from ..cube import grid\n"
        "def f():\n    from xharmonize import series\n    import xharmonize.cli.app\n"
        "    importlib.import_module('xharmonize.plot')\n"
    )
    assert own_parts(file) == {"cube", "series", "cli", "plot"}
    file.write_text("import xharmonize as xh\n")
    assert own_parts(file) == {"*"}


def test_the_reader_tells_what_is_imported_when_a_module_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    file = tmp_path / "cube.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import torch\n"
        "from odc.geo.geobox import GeoBox\n"
        "try:\n    import rasterio.warp\nexcept ImportError:\n    pass\n"
        "class A:\n    from odc import stac\n    def f(self):\n        import zarr\n"
        "if TYPE_CHECKING:\n    import matplotlib\n"
        "def g():\n    import sklearn\n"
    )
    found = {name for name in imports_when_loaded(file) if is_heavy(name, DEFERRED)}
    assert found == {"torch", "rasterio.warp", "odc", "odc.stac"}
    with pytest.raises(AssertionError, match=r"imports .* when it is loaded"):
        test_heavy_packages_are_imported_inside_functions(file)


def test_the_light_parts_load_nothing_heavy():
    code = f"import sys, {', '.join(LIGHT)}, odc.geo.geobox; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & (DEFERRED - {"odc"})
