"""A field of the simulated landscape, and its true course."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xharmonize.errors import GridError

if TYPE_CHECKING:
    from xharmonize.simulate import Simulation


def largest_field(seed: int, cube: xr.DataArray) -> xr.DataArray:
    """Return the pixels of a cube that lie wholly in its largest field of crops.

    Parameters
    ----------
    seed : int
        Of the simulation.
    cube : DataArray
        On a grid whose pixels are whole multiples of 2.5 m.

    Returns
    -------
    (y, x) bool DataArray

    Raises
    ------
    GridError
        If no pixel lies wholly in a field.
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
        raise GridError("no pixel lies wholly in a field; simulate a larger area: --size")
    largest = np.bincount(lowest[is_crop]).argmax()
    field = is_crop & (lowest == largest)
    return xr.DataArray(field, dims=("y", "x"), coords={"y": cube["y"], "x": cube["x"]})


def true_ndvi(
    simulation: Simulation, field: xr.DataArray, *, every: str = "4D", hour: float = 10.7
) -> xr.DataArray:
    """Return the NDVI [1] of a field as Landsat would see it through a perfect atmosphere.

    Parameters
    ----------
    simulation : Simulation
    field : (y, x) bool DataArray
        Its pixels.
    every : str
        Step in time, as pandas writes it.
    hour : float
        Time of the day [h UTC].

    Returns
    -------
    (time,) DataArray
    """
    import pandas as pd

    from xharmonize.simulate import truth

    days = pd.date_range(simulation.start, simulation.end, freq=every)
    times = (days + pd.Timedelta(hours=hour)).to_numpy("datetime64[ns]")
    values = []
    for time in times:
        ground = truth(simulation, time, like=field)["reflectance"]
        red, nir = (ground.sel(band=name).where(field) for name in ("red", "nir08"))
        values.append(((nir - red) / (nir + red)).mean().compute().item())
    return xr.DataArray(values, dims="time", coords={"time": times}, name="ndvi")
