"""Granule metadata and angle bands, written by tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

N = 23
CORNER = (499980.0, 5630040.0)  # of a tile around the example cube
TILE = "31UES"


def grid_of(values) -> str:
    """A ``Zenith`` or ``Azimuth`` element's content."""
    rows = "".join(
        f"<VALUES>{' '.join('NaN' if np.isnan(v) else f'{v:.6f}' for v in row)}</VALUES>"
        for row in values
    )
    return (
        '<COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP>'
        f"<Values_List>{rows}</Values_List>"
    )


def _angles(zenith, azimuth) -> str:
    return f"<Zenith>{grid_of(zenith)}</Zenith><Azimuth>{grid_of(azimuth)}</Azimuth>"


def granule_xml(
    sun,
    views,
    *,
    corner=CORNER,
    tile=TILE,
    time="2018-07-01T10:50:00.000Z",
    epsg=32631,
    head="",
) -> str:
    """Granule metadata.

    Parameters
    ----------
    sun : pair of (23, 23) arrays
        Zenith and azimuth [degree].
    views : mapping of (bandId, detectorId) to such pairs
    """
    grids = "".join(
        f'<Viewing_Incidence_Angles_Grids bandId="{band}" detectorId="{detector}">'
        f"{_angles(*pair)}</Viewing_Incidence_Angles_Grids>"
        for (band, detector), pair in views.items()
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        '<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/x.xsd">'
        f"<n1:General_Info><TILE_ID>S2A_OPER_MSI_L2A_TL_2APS_A042547_T{tile}_N05.09</TILE_ID>"
        f"<SENSING_TIME>{time}</SENSING_TIME></n1:General_Info>"
        "<n1:Geometric_Info><Tile_Geocoding>"
        f"<HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>"
        f'<Geoposition resolution="10"><ULX>{corner[0]:.0f}</ULX><ULY>{corner[1]:.0f}</ULY>'
        "<XDIM>10</XDIM><YDIM>-10</YDIM></Geoposition></Tile_Geocoding>"
        f"<Tile_Angles><Sun_Angles_Grid>{_angles(*sun)}</Sun_Angles_Grid>{grids}"
        "</Tile_Angles></n1:Geometric_Info></n1:Level-2A_Tile_ID>"
    )


def smooth(zenith=40.0, azimuth=150.0, slope=0.05):
    """Zenith and azimuth that grow along both axes."""
    row, column = np.mgrid[:N, :N]
    return zenith - slope * row - slope / 2 * column, azimuth + slope * column - slope / 3 * row


def plain_views(bands=range(13)):
    """One detector that sees the whole tile, from elsewhere in each band."""
    return {(band, 1): smooth(8 + band / 100, 105 - band / 10, 0.1) for band in bands}


def write_granule(path: Path, **options) -> str:
    """Write granule metadata that has every part; return the path."""
    sun, views = options.pop("sun", smooth()), options.pop("views", plain_views())
    path.write_text(granule_xml(sun, views, **options))
    return str(path)


def write_bands(
    folder: Path,
    numbers,
    *,
    origin,
    step=30.0,
    epsg=32631,
    dtype="int16",
    nodata=None,
    scale=None,
    names=("SZA", "SAA", "VZA", "VAA"),
) -> dict[str, str]:
    """Write four angle bands of digital numbers (y, x); return their paths by name."""
    import rasterio
    from affine import Affine

    paths = {}
    for name, array in zip(names, numbers):
        path = str(folder / f"LC08_L1TP_199025_20180701_20200823_02_T1_{name}.TIF")
        profile = {"height": array.shape[0], "width": array.shape[1], "count": 1, "dtype": dtype}
        transform = Affine(step, 0, origin[0], 0, -step, origin[1])
        with rasterio.open(
            path, "w", "GTiff", crs=f"EPSG:{epsg}", transform=transform, nodata=nodata, **profile
        ) as file:
            file.write(array.astype(dtype), 1)
            if scale is not None:
                file.scales = (scale,)
        paths[name] = path
    return paths
