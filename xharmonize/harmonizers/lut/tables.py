"""`fit_tables`: look-up tables per tile and date, from any model that makes some."""

from __future__ import annotations

import xarray as xr

from xharmonize.cube.door import at_door
from xharmonize.errors import ModelError
from xharmonize.harmonizers.protocol import Model, TableMaker


def fit_tables(
    cube: xr.DataArray | xr.Dataset,
    model: Model,
    *,
    tile: float | None = None,
    interpolate: bool = False,
    min_coverage: float = 0.0,
) -> xr.Dataset:
    """Make one look-up table per date, tile and band from the histograms of a cube; lazy.

    The valid pixels of each tile are counted, exactly, whatever the chunks; a model turns each
    histogram into a table: a network (a bundle of kind ``lut``), matching to a stored target
    (`fit_histogram`), or one table for all (`fit_lut`). The tables can be looked at, plotted,
    saved, and passed back: ``to_landsat(model, tables=tables)`` or ``to_landsat(tables)`` is then a
    pure map, the same for any part of the cube.

    Parameters
    ----------
    cube : cube
        Reflectance or digital numbers with their contract, in a projected CRS. Steps that are in
        the target's bandpass already get no tables.
    model : model
        A fit of `fit_histogram` or `fit_lut`, a bundle of kind ``lut``, or the path of one.
    tile : float, optional
        Side of a tile [m]. Edges lie at its multiples in the CRS; a pixel belongs to the tile its
        centre lies in. By default as the bundle says, else 100 km: the squares of the military
        grid, each a Sentinel-2 tile without its overlap.
    interpolate : bool
        Have each pixel mapped by the four tables around it, weighted by its distance to the
        centres of their tiles, so that no tile edge shows.
    min_coverage : float
        Least valid share of a tile's area [1]; a tile with less gets a table of NaN, and its pixels
        become missing, or are left to its neighbours with `interpolate`.

    Returns
    -------
    Dataset
        ``tables`` (time, tile_y, tile_x, band, knot) [1], linear between the knots
        ``knot_value`` (band, knot) [1] and held beyond; NaN where a tile has no valid pixel and
        the model needs some. ``histograms`` (time, tile_y, tile_x, band, bin): counts of valid
        pixels. ``tile_coverage`` (time, tile_y, tile_x): valid share of the tile's whole area [1],
        of the poorest band. ``tile_flag`` (time, tile_y, tile_x): partial context, out of domain.
        ``tile_extent`` (tile_y, tile_x): share of the tile inside the cube [1].

    Raises
    ------
    GridError
        If the CRS is in degrees, or a tile is smaller than a pixel.
    ModelError
        If the model makes no tables, or all steps are in the target's bandpass already.
    BandError
        If the cube lacks the model's bands.
    RadiometryError
        If level or bandpass do not fit the model.

    Warns
    -----
    RadiometryWarning
        If tiles reach beyond the cube: their tables then rest on a part of them.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """
    cube = at_door(cube)
    from xharmonize.harmonizers.registry import as_harmonizer

    harmonizer = as_harmonizer(model)
    if not isinstance(harmonizer, TableMaker):
        raise ModelError(
            f"model {harmonizer.name!r} makes no look-up tables; give a fit of fit_histogram or "
            "fit_lut, or a bundle of kind 'lut'"
        )
    return harmonizer.fit_tables(
        cube, tile=tile, interpolate=interpolate, min_coverage=min_coverage
    )
