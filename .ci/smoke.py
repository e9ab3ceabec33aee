"""What an installed package must do with its base dependencies alone.

Run by the interpreter of a fresh environment, from a folder that holds no checkout.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube, no_compute

CHUNKS = {"time": 1, "y": 12}
LATER = ("2018-07-02T10:40", "2018-07-07T10:40", "2018-07-12T10:40")


def main(folder: Path) -> None:
    """Run every check, one line each."""
    print(f"xharmonize {xh.__version__}, Python {sys.version.split()[0]}")
    print(", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("numpy", "xarray", "dask")))
    check_files()
    sentinel = example_cube(chunks=CHUNKS)
    landsat = example_cube(
        "landsat-c2-l2", platform="landsat-8", resolution=30.0, shape=(8, 10), dates=LATER, seed=1
    )
    check_contract(sentinel)
    harmonized = check_line(sentinel, landsat)
    check_fit(sentinel, landsat)
    check_store(harmonized, folder / "series.zarr")
    check_series(harmonized, landsat)
    check_extras()
    check_commands(folder)


def check_files() -> None:
    """What type checkers and lazy loading read is in the wheel."""
    there = Path(xh.__file__).parent
    assert (there / "__init__.pyi").is_file()
    assert xh.__version__ == importlib.metadata.version("xharmonize")
    for name in xh.__all__:
        getattr(xh, name)
    print(f"  {len(xh.__all__)} public names load")


def check_contract(cube: xr.DataArray) -> None:
    """A cube without its contract is refused, with the way to settle it; described, it is taken."""
    bare = cube.drop_vars(["sensor", "platform", "bandpass", "level"])
    told = refused(xh.ContractError, lambda: bare.harmonize.to_landsat("hls-v2"))
    assert "describe" in told
    described = xh.describe(bare, sensor="sentinel-2-l2a", platform="sentinel-2a")
    assert set(described["bandpass"].values) == {"msi"}
    print("  the contract is asked for")


def check_line(cube: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
    """The published line, lazily, in any chunks, with the grid of the other sensor."""
    with no_compute():
        harmonized: xr.DataArray = cube.harmonize.to_landsat("hls-v2", like=target)
    assert harmonized.sizes["x"] == target.sizes["x"]
    assert set(harmonized["bandpass"].values) == {"oli"}
    same = cube.harmonize.to_landsat("hls-v2")
    change = abs(same - cube).max().compute()
    assert 0 < float(change) < 0.05
    other = cube.chunk({"time": 2, "x": 7}).harmonize.to_landsat("hls-v2")
    xr.testing.assert_identical(other.compute(), same.compute())
    print(f"  HLS v2 changes reflectance by up to {float(change):.4f}")
    return harmonized


def check_fit(cube: xr.DataArray, target: xr.DataArray) -> None:
    """A line through pairs, applied again."""
    coarse = cube.harmonize.regrid(like=target).compute()
    own = {n: ("time", target[n].values) for n in ("sensor", "platform", "bandpass", "item_id")}
    reference = (coarse * 0.9 + 0.01).assign_coords(own).assign_attrs(coarse.attrs)
    fit = xh.fit_linear(xh.match_pairs(coarse, reference, tolerance="1D"))
    found = coarse.harmonize.to_landsat(fit)
    np.testing.assert_allclose(found, reference, atol=1e-4)
    print("  a fitted line gives back what made it")


def check_store(cube: xr.DataArray, path: Path) -> None:
    """What is written is what is read, by both doors."""
    xh.to_zarr(cube, path)
    xr.testing.assert_allclose(xh.open_series(path).compute(), cube.compute())
    there = xr.open_dataset(path, engine="xharmonize")
    np.testing.assert_allclose(there["reflectance"], cube)
    print("  a store gives back what was written")


def check_series(cube: xr.DataArray, other: xr.DataArray) -> None:
    """Two sensors on one axis, their index smoothed."""
    series = other.harmonize.densify(cube)
    smooth = series.harmonize.index("ndvi").harmonize.smooth(step="2D").compute()
    assert np.isfinite(smooth["ndvi"]).any()
    print(f"  {series.sizes['time']} dates of two sensors on one axis")


def check_extras() -> None:
    """What is not installed is named, with the extra that installs it."""
    if find_spec("pystac") is not None:
        return
    address = "https://127.0.0.1:9/stac"  # nobody is asked
    told = refused(xh.MissingDependencyError, lambda: xh.open_stac(address))
    assert "xharmonize[stac]" in told
    print("  a missing extra is named")


def check_commands(folder: Path) -> None:
    """The commands that need nothing else."""
    command = Path(sys.executable).with_name("xharmonize")
    for arguments in (["--version"], ["models"], ["init", str(folder / "recipe.toml")]):
        subprocess.run([command, *arguments], check=True, capture_output=True, timeout=120)
    if find_spec("uvicorn") is None:
        demo = [command, "demo", "--out", str(folder / "demo")]
        told = subprocess.run(demo, capture_output=True, timeout=120, text=True, check=False)
        assert told.returncode == 1
        assert "xharmonize[demo]" in told.stderr
        assert not (folder / "demo").exists()
    print("  the command line starts")


def refused(kind: type[Exception], call: Callable[[], object]) -> str:
    """Return the message of the error that a call raises."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
