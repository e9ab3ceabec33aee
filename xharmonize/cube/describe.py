"""Giving a cube of any other library the radiometric contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube import foreign
from xharmonize.cube.claims import Claims, PerBand, blank_missing, settle_steps
from xharmonize.cube.contract import REFLECTANCE, with_history, write_contract
from xharmonize.cube.platforms import PlatformChoice
from xharmonize.cube.quality import pack_qa
from xharmonize.cube.stated import Stated
from xharmonize.errors import ContractError
from xharmonize.sensors import QALayer, Sensor, get_sensor


def describe(
    cube: xr.DataArray | xr.Dataset,
    *,
    sensor: str,
    platform: PlatformChoice | None = None,
    processing_baseline: str | Sequence[str] | None = None,
    level: str | None = None,
    scale: PerBand | None = None,
    offset: PerBand | None = None,
    nodata: PerBand | None = None,
    is_decoded: bool | None = None,
    bands: Sequence[str] | Mapping[str, str] | None = None,
    crs: Any = None,
    item_id: str | Sequence[str] | None = None,
) -> xr.DataArray | xr.Dataset:
    """Say what the numbers of a cube mean, so that everything else here can use it.

    For cubes of plain stackstac, odc-stac or rioxarray, and for cubes that lost their contract in
    arithmetic. Pixels are not looked at; arguments override the coordinates of the cube, and
    these the registry. What attributes or encoding state (``_FillValue``, ``missing_value``,
    ``nodata``, ``scale_factor``, ``add_offset``) overrides the registry too, and is enough; an
    argument that contradicts it is an error, unless `scale` and `offset` are both given. A scale
    of 1 and an offset of 0 count as not stated. What names, coordinates and attributes say of
    level, product, platform and baseline counts as it does in items. The sensing date decides
    nothing.

    Parameters
    ----------
    cube : DataArray or Dataset
        DataArray with bands along ``band``, or Dataset with one variable per band, or one of ours
        (``reflectance`` and companions). See `xharmonize.cube.foreign` for what is renamed.
    sensor : str
        Product that observed: a name of `xharmonize.sensors.list_sensors`.
    platform : str or mapping, optional
        A platform for all dates that name none, ``"infer"``, ``"sentinel-2"`` (the mean of 2A and
        2B), or a mapping by item id or date.
    processing_baseline : str or sequence of str, optional
        For all dates, or one each; decides Sentinel-2's offset.
    level : {"TOA", "SR", "NBAR"}, optional
        Default: that of the product.
    scale, offset, nodata : float or mapping of str to float, optional
        Reflectance is ``DN * scale + offset``; DN equal to nodata is missing. Default: the
        cube's own, then the product's, and for Sentinel-2 the offset of the baseline. In
        reflectance, a value equal to nodata is missing.
    is_decoded : bool, optional
        Whether the pixels are reflectance already. Integers are digital numbers; floats may be
        either, and have to be told unless `scale` or `offset` is given, or xarray applied both
        when it read them.
    bands : sequence or mapping, optional
        Common names, in the order of the cube or by its labels.
    crs : CRS, str or int, optional
        Where the cube names none.
    item_id : str or sequence of str, optional
        Names for the dates, in messages and stores.

    Returns
    -------
    DataArray or Dataset
        ``(time, band, y, x)`` with the contract; a Dataset with ``reflectance`` and ``qa`` where
        there was a quality layer among the bands, or companions. In floats, missing pixels are
        NaN.

    Raises
    ------
    UnknownSensorError, BandError, GridError, TimeAxisError
        If a name, a band, the CRS or time is missing or unknown.
    ContractError
        If there are other dimensions than time, band, y and x.
    RadiometryError
        If the arguments contradict the dtype, what the cube states, the metadata or each other,
        or leave the scale or the offset open; if the cube is of another level or product, or in
        percent.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> bare = example_cube(is_decoded=False).reset_coords(drop=True)
    >>> cube = xh.describe(
    ...     bare,
    ...     sensor="sentinel-2-l2a",
    ...     platform="sentinel-2a",
    ...     processing_baseline="05.00",
    ...     crs="EPSG:32631",
    ... )
    >>> float(cube.offset[0, 0])
    -0.1
    """
    spec = get_sensor(sensor)
    pixels, stated, companions = _split(cube)
    settled = foreign.settle_grid(pixels, crs)
    claims = Claims(
        platform=platform,
        processing_baseline=processing_baseline,
        level=level,
        scale=scale,
        offset=offset,
        nodata=nodata,
        is_decoded=is_decoded,
        item_id=item_id,
    )
    latitude = foreign.latitude_of(settled) if platform == "infer" else 0.0
    platforms = claims.platforms(pixels, spec, latitude=latitude)
    labels = pixels["band"].values.tolist()
    names, layers = foreign.name_bands(labels, spec, platforms, bands)
    spectral = [i for i in range(len(names)) if i not in layers]
    own, common = [stated[i] for i in spectral], [names[i] for i in spectral]
    chosen = _own_type(pixels.isel(band=spectral), own)
    steps = settle_steps(chosen, common, spec, claims, platforms, own)
    reflectance = _own_type(settled.isel(band=spectral), own).assign_coords(band=common)
    reflectance, steps = blank_missing(reflectance, steps, claims, own)
    reflectance = write_contract(reflectance, steps).rename(REFLECTANCE)
    reflectance.attrs = with_history({"units": "1", **reflectance.attrs}, f"describe: {sensor}")
    found = {layer: settled.isel(band=i, drop=True) for i, layer in layers.items()}
    return _with_companions(reflectance, _packed(found, reflectance, spec), companions)


def _split(
    cube: xr.DataArray | xr.Dataset,
) -> tuple[xr.DataArray, list[Stated], dict[str, xr.DataArray]]:
    """Pixels as one array, what they state of themselves, and the companions of a cube of ours."""
    companions: dict[str, xr.DataArray] = {}
    if isinstance(cube, xr.Dataset) and REFLECTANCE in cube:
        companions = {str(name): cube[name] for name in cube.data_vars if name != REFLECTANCE}
        cube = cube[REFLECTANCE]
    pixels, stated = foreign.as_array(cube)
    return foreign.tidy_time(pixels), stated, companions


def _own_type(spectral: xr.DataArray, stated: Sequence[Stated]) -> xr.DataArray:
    """Integers again, where quality layers in floats had them converted."""
    types = {said.dtype for said in stated}
    if types and spectral.dtype.kind == "f" and all(dtype.kind in "iu" for dtype in types):
        return spectral.astype(np.result_type(*types))
    return spectral


def _packed(
    layers: Mapping[QALayer, xr.DataArray], reflectance: xr.DataArray, sensor: Sensor
) -> dict[str, xr.DataArray]:
    """The quality layers among the bands, packed as ``qa``."""
    if not layers:
        return {}
    values = {layer.name: foreign.quality_values(v, layer) for layer, v in layers.items()}
    if not any(layer.is_primary for layer in layers):
        raise ContractError(
            f"quality layers {', '.join(values)} without {sensor.qa[0].name}, which says where "
            "there are pixels; add it to the bands, or leave them out"
        )
    platforms = {str(name) for name in reflectance["platform"].values}
    only = platforms.pop() if len(platforms) == 1 else None
    bands = [str(name) for name in reflectance["band"].values]
    known = only if only in sensor.platforms else None
    return {"qa": pack_qa(values, sensor, bands=bands, platform=known)}


def _with_companions(
    reflectance: xr.DataArray,
    packed: Mapping[str, xr.DataArray],
    companions: Mapping[str, xr.DataArray],
) -> xr.DataArray | xr.Dataset:
    if not packed and not companions:
        return reflectance
    bare = {
        name: array.drop_vars([n for n in array.coords if n not in array.dims])
        for name, array in {**companions, **packed}.items()
    }
    return reflectance.to_dataset(name=REFLECTANCE).assign(bare)
