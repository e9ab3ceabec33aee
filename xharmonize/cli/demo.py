"""``xharmonize demo``: the whole way, from scenes to a dense NDVI series, on simulated scenes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xharmonize.cli import console
from xharmonize.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr

    from xharmonize.simulate import Simulation

SOURCE, TARGET = "sentinel-2-l2a", "landsat-c2-l2"
# Middle of a tile of the simulator's lattice: an area of up to 900 m is rendered as one tile.
CENTER = (501_600.0, 5_628_960.0)
N_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Cubes:
    """What the demo made, before and after."""

    source: xr.DataArray
    target: xr.DataArray
    harmonized: xr.DataArray
    ndvi: Any


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("xharmonize-demo"),
    seed: Annotated[int, typer.Option(help="Seed of landscape and weather.")] = 0,
    size: Annotated[float, typer.Option(help="Width and height in metres.", min=300.0)] = 900.0,
    start: Annotated[str, typer.Option(help="First day.")] = "2022-05-01",
    end: Annotated[str, typer.Option(help="Last day.")] = "2022-08-31",
) -> None:
    """Simulate scenes, search them in a STAC API, harmonise, merge, and write NDVI with figures.

    Nothing is downloaded. Running it again replaces what it wrote.
    """
    from xharmonize.simulate import Simulation

    begun = time.perf_counter()
    simulation = Simulation(seed=seed, size=(size, size), center=CENTER, start=start, end=end)
    _clear(out)
    _step(1, f"Simulate {len(simulation.passes())} scenes as COGs with STAC items")
    from xharmonize.cli.simulate import write_scenes

    catalog = write_scenes(simulation, out / "scenes", mode="w")
    items = _search(catalog)
    cubes = _harmonize(items, out)
    _draw(cubes, simulation, out)
    _sum_up(cubes, out, seconds=time.perf_counter() - begun)


def _step(number: int, text: str) -> None:
    console.OUT.print(f"[bold][{number}/{N_STEPS}][/] {text}", highlight=False)


def _clear(out: Path) -> None:
    """Remove what an earlier demo wrote; refuse a folder that holds anything else."""
    marker, known = ".xharmonize-demo", ("scenes", "ndvi.zarr", "figures")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found and (marker not in found or not found <= {marker, *known}):
        raise StoreError(f"{out} holds other files than an earlier demo's; name another --out")
    for name in known:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / marker).touch()


def _search(catalog: Path) -> dict[str, Any]:
    """Serve the scenes as a STAC API on loopback, and search it as one would any other."""
    from xharmonize._optional import require
    from xharmonize.cli.server import read_catalog, serve

    client_type = require("pystac_client", extra="stac").Client
    with serve(*read_catalog(catalog)) as url:
        _step(2, f"Search the STAC API at {url}")
        client = client_type.open(url)
        found = {
            name: client.search(collections=[name]).item_collection() for name in (SOURCE, TARGET)
        }
    for name, items in found.items():
        console.say(f"      {name}: {len(items)} items")
    return found


def _harmonize(items: dict[str, Any], out: Path) -> Cubes:
    import xharmonize as xh
    from xharmonize.cli.choice import DEFAULT_BANDS
    from xharmonize.cli.reading import check

    _step(3, "Open both as lazy cubes, and compare pixels with their metadata")
    source, target = (
        # The API is ours, and links the scenes that were just simulated on this machine.
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
    from xharmonize.cli.field import largest_field, true_ndvi
    from xharmonize.cli.figures import draw

    _step(5, "Draw maps before and after, the NDVI of a field, and the dates of acquisition")
    field = largest_field(simulation.seed, cubes.target)
    with console.progress("Drawing"):
        draw(
            out / "figures",
            source=cubes.source,
            harmonized=cubes.harmonized,
            target=cubes.target,
            series=cubes.ndvi,
            field=field,
            truth=true_ndvi(simulation, field),
        )


def _sum_up(cubes: Cubes, out: Path, *, seconds: float) -> None:
    from xharmonize.cli.report import print_summary

    _step(6, "Sum up")
    print_summary(cubes.ndvi, title="Dense NDVI series")
    console.say(f"Store    {out / 'ndvi.zarr'}   (xharmonize.open_series, or xarray.open_zarr)")
    console.say(f"Figures  {out / 'figures'}")
    console.say(f"Scenes   {out / 'scenes' / 'catalog.json'}")
    console.say(f"Done in {seconds:.0f} s.")
