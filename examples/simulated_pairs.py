"""Pairs of Sentinel-2 and Landsat from the simulator, cut for training; used by the other scripts.

A pair is one place on a day on which both sensors pass. Landscape and weather are those of the
seed, physics those of the variant: train on some, score on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.models import Domain, Input, Lattice
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.tiles import sampling

OLI = ("blue", "green", "red", "nir08", "swir16", "swir22")
INPUTS = {
    "10m": (10.0, ("blue", "green", "red", "nir")),
    "20m": (20.0, ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")),
}
TILE_MIDDLE = (501_600.0, 5_628_960.0)  # the simulator renders tiles of 960 m: this is one
EDGES, N_BINS = (0.0, 1.0), 64


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One place on one day: (time, band, y, x) cubes of one date, on the sensors' own grids."""

    sentinel: xr.DataArray
    landsat: xr.DataArray


@dataclass(frozen=True, kw_only=True)
class Window:
    """The same ground to both sensors, cut as the lattice cuts it.

    Attributes
    ----------
    inputs : list of (band, y, x) float32 array
        Sentinel-2's reflectance [1] at 10 m and at 20 m.
    target : (band, y, x) float32 array
        Landsat's reflectance [1].
    """

    inputs: list[np.ndarray]
    target: np.ndarray


def common_days(year: int) -> list[str]:
    """Return the days from March to October on which both sensors pass."""
    days: dict[str, set[str]] = {}
    for observation in Simulation(start=f"{year}-03-01", end=f"{year}-10-31").passes():
        days.setdefault(str(observation.time)[:10], set()).add(observation.orbit.sensor)
    return [day for day, sensors in days.items() if len(sensors) == 2]


def simulate(places: Mapping[int, str], **options: Any) -> Iterator[Pair]:
    """Yield one cloudless pair for each seed and its day; `options` are those of `Simulation`."""
    options = {"center": TILE_MIDDLE, "size": (900.0, 900.0), "cloudiness": 0.0} | options
    bands = [band for _, names in INPUTS.values() for band in names]
    for seed, day in places.items():
        place = Simulation(seed=seed, start=day, end=day, **options)
        with TemporaryDirectory() as folder:
            catalog = write_catalog(place, Path(folder) / "scenes")
            # Without clouds, all that a mask would find are false alarms over bright roofs.
            sentinel, landsat = (
                xh.open_stac(catalog, collection=name, bands=names, mask=None)
                for name, names in (("sentinel-2-l2a", bands), ("landsat-c2-l2", list(OLI)))
            )
            yield Pair(
                sentinel=sentinel.isel(time=[0]).compute(),
                landsat=landsat.isel(time=[0]).compute(),
            )


def cut(pair: Pair, lattice: Lattice, size: int, at: tuple[int, int] = (0, 0)) -> Window:
    """Cut a window of `size` target pixels that starts at even counts of the lattice.

    Even, since three pixels of 20 m lie under two of 30 m: tiles of the lattice start there too.

    Parameters
    ----------
    at : (int, int)
        Even rows and columns from the first window in the north-west.
    """
    west, north = _corner(pair.landsat)
    column = at[1] + round((west - lattice.phase[0]) / lattice.resolution) % 2
    row = at[0] + round((lattice.phase[1] - north) / lattice.resolution) % 2
    west, north = west + column * lattice.resolution, north - row * lattice.resolution
    inputs = []
    for gsd, bands in INPUTS.values():
        held = round(gsd / 10)  # open_stac holds pixels of 20 m at 10 m, by nearest
        whole = pair.sentinel.sel(band=list(bands)).values
        image = sampling.own_pixels(whole, held, bands=bands, gsd=gsd)[0]
        left, top = _corner(pair.sentinel)
        x, y = int((west - left) // gsd), int((top - north) // gsd)
        n = int(size * lattice.cells(gsd))
        inputs.append(image[:, y : y + n, x : x + n])
    target = pair.landsat.sel(band=list(OLI)).values[0]
    return Window(inputs=inputs, target=target[:, row : row + size, column : column + size])


def describe_inputs(windows: Sequence[Window]) -> tuple[Input, ...]:
    """Say what a generator takes, scaled to mean 0 and variance 1 over the training windows."""
    parts = []
    for number, (name, (gsd, bands)) in enumerate(INPUTS.items()):
        found = sampling.moments(np.stack([window.inputs[number] for window in windows]))
        mean, scale = (tuple(round(value, 4) for value in part) for part in found)
        parts.append(Input(name=name, bands=bands, gsd=gsd, mean=mean, scale=scale))
    return tuple(parts)


def describe_domain(windows: Sequence[Window]) -> Domain:
    """Say what reflectance the model was trained on: out of it, pixels can be flagged."""
    tiles = [
        (bands, np.stack([window.inputs[number] for window in windows]))
        for number, (_, bands) in enumerate(INPUTS.values())
    ]
    return sampling.make_domain([tiles], edges=EDGES, n_bins=N_BINS)


def _corner(cube: xr.DataArray) -> tuple[float, float]:
    """Western and northern edge of a cube [m]."""
    half = abs(float(cube["x"][1] - cube["x"][0])) / 2
    return float(cube["x"][0]) - half, float(cube["y"][0]) + half
