"""``xharmonize demo`` and ``simulate``: the full workflow on simulated scenes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
import xarray as xr

from xharmonize._optional import require_installed
from xharmonize._replace import Mode
from xharmonize.cli import console
from xharmonize.cli.arguments import mode_of
from xharmonize.errors import GridError, StoreError
from xharmonize.plot import overview

if TYPE_CHECKING:
    import xarray as xr

    from xharmonize.simulate import Simulation

NEEDED = ("pystac_client", "stac_fastapi", "cql2", "uvicorn", "matplotlib")


def largest_field(seed: int, cube: xr.DataArray) -> xr.DataArray:
    """Return the pixels that lie entirely within the largest crop field of a cube.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    cube : DataArray
        Cube on a grid whose pixel size is a multiple of 2.5 m.

    Returns
    -------
    (y, x) bool DataArray

    Raises
    ------
    GridError
        If no pixel lies entirely within a field.
    """
    from xharmonize.simulate import Cover
    from xharmonize.simulate.config import FINE
    from xharmonize.simulate.landscape import render_landscape
    from xharmonize.simulate.noise import Window

    x, y = cube["x"].values, cube["y"].values
    step = float(x[1] - x[0])
    n = round(step / FINE)
    window = Window(
        left=float(x[0]) - step / 2,
        top=float(y[0]) + step / 2,
        step=FINE,
        width=n * x.size,
        height=n * y.size,
    )
    ground = render_landscape(seed, window)
    unit = ground.unit.reshape(y.size, n, x.size, n)
    lowest, highest = unit.min(axis=(1, 3)), unit.max(axis=(1, 3))
    is_crop = (lowest == highest) & (ground.unit_cover[lowest] == Cover.CROP)
    if not is_crop.any():
        raise GridError("no pixel lies wholly in a field", cure="simulate a larger area: --size")
    largest = np.bincount(lowest[is_crop]).argmax()
    field = is_crop & (lowest == largest)
    return xr.DataArray(field, dims=("y", "x"), coords={"y": cube["y"], "x": cube["x"]})


def true_ndvi(
    simulation: Simulation, field: xr.DataArray, *, every: str = "4D", hour: float = 10.7
) -> xr.DataArray:
    """Return the NDVI [1] of a field as Landsat would see it without an atmosphere.

    Parameters
    ----------
    simulation : Simulation
    field : (y, x) bool DataArray
        Pixels of the field.
    every : str
        Time step, as a pandas frequency.
    hour : float
        Time of day [h UTC].

    Returns
    -------
    (time,) DataArray
    """
    import pandas as pd

    from xharmonize.simulate import truth

    days = pd.date_range(simulation.start, simulation.end, freq=every)
    times = (days + pd.Timedelta(hours=hour)).to_numpy("datetime64[ns]")
    values = []
    for date in times:
        ground = truth(simulation, date, like=field)["reflectance"]
        red, nir = (ground.sel(band=name).where(field) for name in ("red", "nir08"))
        values.append(((nir - red) / (nir + red)).mean().compute().item())
    return xr.DataArray(values, dims="time", coords={"time": times}, name="ndvi")


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write the catalogue to.")],
    seed: Annotated[int, typer.Option(help="Random seed of landscape and weather.")] = 0,
    start: Annotated[str, typer.Option(help="First day.")] = "2022-05-01",
    end: Annotated[str, typer.Option(help="Last day.")] = "2022-08-31",
    size: Annotated[float, typer.Option(help="Width and height in metres.", min=60.0)] = 900.0,
    cloudiness: Annotated[
        float, typer.Option(help="Mean cloud cover, 0 to 1.", min=0.0, max=0.95)
    ] = 0.35,
    sensor: Annotated[
        list[str] | None,
        typer.Option(
            help="Sensor to simulate: sentinel-2-l2a, landsat-c2-l2, gaofen-1-ard or "
            "sentinel-1-rtc. Repeat for several. Default: the first two."
        ),
    ] = None,
    variant: Annotated[
        Literal["a", "b", "c"], typer.Option(help="Variant of the simulated physics.")
    ] = "a",
    baseline: Annotated[
        Literal["with-offset", "without-offset", "mixed"],
        typer.Option(help="Sentinel-2 processing baselines to simulate."),
    ] = "with-offset",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing catalogue.")
    ] = False,
) -> None:
    """Simulate scenes with known truth and write them as COGs with a static STAC catalogue."""
    from xharmonize.simulate import Simulation

    simulation = Simulation(
        seed=seed,
        start=start,
        end=end,
        size=(size, size),
        cloudiness=cloudiness,
        sensors=tuple(sensor or ("sentinel-2-l2a", "landsat-c2-l2")),
        variant=variant,
        baseline=baseline,
    )
    catalog = write_scenes(simulation, out, mode=mode_of(overwrite))
    console.say(f"{len(simulation.passes())} scenes: {catalog}")


def write_scenes(simulation: Simulation, out: Path, *, mode: Mode) -> Path:
    """Write a simulation with a progress bar; return its ``catalog.json``."""
    from xharmonize.simulate import write_catalog

    with console.counted("Simulating scenes") as show:
        return write_catalog(simulation, out, mode=mode, progress=show)


SOURCE, TARGET = "sentinel-2-l2a", "landsat-c2-l2"
# Centre of one of the simulator's tiles, so that an area of up to 900 m renders as one tile.
CENTER = (501_600.0, 5_628_960.0)
N_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Cubes:
    """Cubes of the demo, before and after harmonisation."""

    source: xr.DataArray
    target: xr.DataArray
    harmonized: xr.DataArray
    ndvi: Any


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("xharmonize-demo"),
    seed: Annotated[int, typer.Option(help="Random seed of landscape and weather.")] = 0,
    size: Annotated[float, typer.Option(help="Width and height in metres.", min=300.0)] = 900.0,
    start: Annotated[str, typer.Option(help="First day.")] = "2022-05-01",
    end: Annotated[str, typer.Option(help="Last day.")] = "2022-08-31",
) -> None:
    """Run the full workflow on simulated scenes: search a STAC API, harmonise, merge, write NDVI.

    Nothing is downloaded. Running the demo again replaces its output.
    """
    from xharmonize.simulate import Simulation

    require_installed(*NEEDED, extra="demo")
    begun = time.perf_counter()
    simulation = Simulation(seed=seed, size=(size, size), center=CENTER, start=start, end=end)
    _clear(out)
    _step(1, f"Simulate {len(simulation.passes())} scenes as COGs with STAC items")

    catalog = write_scenes(simulation, out / "scenes", mode="w")
    items = _search(catalog)
    cubes = _harmonize(items, out)
    _draw(cubes, simulation, out)
    _sum_up(cubes, out, seconds=time.perf_counter() - begun)


def _step(number: int, text: str) -> None:
    console.say(f"[{number}/{N_STEPS}] {text}")


def _clear(out: Path) -> None:
    """Remove the output of an earlier demo; refuse a folder that holds other files."""
    marker, known = ".xharmonize-demo", ("scenes", "ndvi.zarr", "figures")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found and (marker not in found or not found <= {marker, *known}):
        raise StoreError(
            f"{out} holds other files than an earlier demo's", cure="name another --out"
        )
    for name in known:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / marker).touch()


def _search(catalog: Path) -> dict[str, Any]:
    """Serve the scenes as a STAC API on loopback, and search it like any other API."""
    from pystac_client import Client

    from xharmonize.cli.server import read_catalog, serve

    with serve(*read_catalog(catalog)) as url:
        _step(2, f"Search the STAC API at {url}")
        client = Client.open(url)
        found = {
            name: client.search(collections=[name]).item_collection() for name in (SOURCE, TARGET)
        }
    for name, items in found.items():
        console.say(f"      {name}: {len(items)} items")
    return found


def _harmonize(items: dict[str, Any], out: Path) -> Cubes:
    import xharmonize as xh
    from xharmonize.cli.inputs import DEFAULT_BANDS, check

    _step(3, "Open both as lazy cubes, and compare pixels with their metadata")
    source, target = (
        # Local files are allowed: the API is ours and links to scenes simulated on this machine.
        xh.open_stac(items[name], collection=name, bands=list(DEFAULT_BANDS), schemes="file")
        for name in (SOURCE, TARGET)
    )
    for cube in (source, target):
        check(cube, refuse=True)
    _step(4, "Harmonise Sentinel-2 to Landsat, on Landsat's grid; merge; NDVI; write Zarr")
    harmonized = source.harmonize.to_landsat("hls-v2", like=target)
    ndvi = target.harmonize.densify(harmonized).harmonize.index("ndvi")
    with console.progress("Writing ndvi.zarr"):
        ndvi.harmonize.to_zarr(out / "ndvi.zarr", mode="w")
    return Cubes(
        source=source,
        target=target,
        harmonized=harmonized,
        ndvi=xh.open_series(out / "ndvi.zarr"),
    )


def _draw(cubes: Cubes, simulation: Simulation, out: Path) -> None:

    _step(5, "Draw maps before and after, the NDVI of a field, and the dates of acquisition")
    field = largest_field(simulation.seed, cubes.target)
    with console.progress("Drawing"):
        overview.draw(
            out / "figures",
            source=cubes.source,
            harmonized=cubes.harmonized,
            target=cubes.target,
            series=cubes.ndvi,
            field=field,
            truth=true_ndvi(simulation, field),
        )


def _sum_up(cubes: Cubes, out: Path, *, seconds: float) -> None:
    from xharmonize.cli.inputs import print_summary

    _step(6, "Sum up")
    print_summary(cubes.ndvi, title="Dense NDVI series")
    console.say(f"Store    {out / 'ndvi.zarr'}   (xharmonize.open_series, or xarray.open_zarr)")
    console.say(f"Figures  {out / 'figures'}")
    console.say(f"Scenes   {out / 'scenes' / 'catalog.json'}")
    console.say(f"Done in {seconds:.0f} s.")
