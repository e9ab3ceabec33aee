"""Spectral indices of cubes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import (
    COMPANIONS,
    ResultFlag,
    blank_missing,
    companions_of,
    join_bands,
    with_flags,
)
from xharmonize.cube.contract import (
    REFLECTANCE,
    plain_numbers,
    require_bands,
    require_reflectance,
    spread_over,
    with_history,
)
from xharmonize.cube.door import at_door
from xharmonize.errors import BandError, ContractError, RadiometryError, suggest
from xharmonize.kernels import formulas
from xharmonize.kernels import reflectance as kernels
from xharmonize.kernels.formulas import Formula
from xharmonize.kernels.reflectance import RatioTerms
from xharmonize.types import AnyArray

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)


@dataclass(frozen=True, kw_only=True)
class SpectralIndex:
    """A spectral index: formula, coefficients and reference.

    Attributes
    ----------
    name, long_name : str
        Name as passed to `index`, and descriptive name.
    roles : tuple of str
        Common names of the bands; ``nir`` means ``nir08`` if the cube has it.
    formula : str
        Formula in terms of the roles.
    terms : RatioTerms or Formula
        What is computed, of bands in the order of `roles`.
    is_scale_free : bool
        Whether a common factor of all bands leaves the index unchanged (an offset never does).
    citation, doi : str
        Publication that defines the index; the DOI is empty if it has none.
    """

    name: str
    long_name: str
    roles: tuple[str, ...]
    formula: str
    terms: RatioTerms | Formula
    is_scale_free: bool
    citation: str
    doi: str = ""


def _difference(
    name: str, long_name: str, high: str, low: str, citation: str, doi: str = ""
) -> SpectralIndex:
    """A normalised difference of two bands."""
    return SpectralIndex(
        name=name,
        long_name=long_name,
        roles=(high, low),
        formula=f"({high} - {low}) / ({high} + {low})",
        terms=RatioTerms(up=(1, -1), down=(1, 1), is_positive=True),
        is_scale_free=True,
        citation=citation,
        doi=doi,
    )


_INDICES = (
    _difference(
        "ndvi",
        "normalized difference vegetation index",
        "nir",
        "red",
        "Tucker 1979",
        "10.1016/0034-4257(79)90013-0",
    ),
    SpectralIndex(
        name="evi",
        long_name="enhanced vegetation index",
        roles=("nir", "red", "blue"),
        formula="2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)",
        terms=RatioTerms(up=(1, -1, 0), down=(1, 6, -7.5), gain=2.5, constant=1),
        is_scale_free=False,
        citation="Huete et al. 2002",
        doi="10.1016/S0034-4257(02)00096-2",
    ),
    SpectralIndex(
        name="evi2",
        long_name="two-band enhanced vegetation index",
        roles=("nir", "red"),
        formula="2.5 * (nir - red) / (nir + 2.4 * red + 1)",
        terms=RatioTerms(up=(1, -1), down=(1, 2.4), gain=2.5, constant=1),
        is_scale_free=False,
        citation="Jiang et al. 2008",
        doi="10.1016/j.rse.2008.06.006",
    ),
    SpectralIndex(
        name="savi",
        long_name="soil-adjusted vegetation index",
        roles=("nir", "red"),
        formula="1.5 * (nir - red) / (nir + red + 0.5)",
        terms=RatioTerms(up=(1, -1), down=(1, 1), gain=1.5, constant=0.5),
        is_scale_free=False,
        citation="Huete 1988",
        doi="10.1016/0034-4257(88)90106-X",
    ),
    _difference(
        "ndwi",
        "normalized difference water index",
        "green",
        "nir",
        "McFeeters 1996",
        "10.1080/01431169608948714",
    ),
    _difference(
        "mndwi",
        "modified normalized difference water index",
        "green",
        "swir16",
        "Xu 2006",
        "10.1080/01431160600589179",
    ),
    _difference(
        "ndmi",
        "normalized difference moisture index",
        "nir",
        "swir16",
        "Wilson and Sader 2002",
        "10.1016/S0034-4257(01)00318-2",
    ),
    _difference(
        "nbr",
        "normalized burn ratio",
        "nir",
        "swir22",
        "López García and Caselles 1991",
        "10.1080/10106049109354290",
    ),
    _difference(
        "nbr2",
        "normalized burn ratio 2",
        "swir16",
        "swir22",
        "USGS, Landsat Surface Reflectance-Derived Spectral Indices Product Guide",
    ),
    _difference(
        "ndre",
        "normalized difference red edge index",
        "nir",
        "rededge1",
        "Gitelson and Merzlyak 1994",
        "10.1016/1011-1344(93)06963-4",
    ),
    SpectralIndex(
        name="bsi",
        long_name="bare soil index",
        roles=("swir16", "red", "nir", "blue"),
        formula="((swir16 + red) - (nir + blue)) / ((swir16 + red) + (nir + blue))",
        terms=RatioTerms(up=(1, 1, -1, -1), down=(1, 1, 1, 1), is_positive=True),
        is_scale_free=True,
        citation="Rikimaru, Roy and Miyatake 2002, Tropical Ecology 43(1), 39-47",
    ),
)
INDICES = {spec.name: spec for spec in _INDICES}

INDEX_RAMP = (
    (-0.2, "#543005"),
    (0.0, "#bf812d"),
    (0.2, "#f6e8c3"),
    (0.4, "#c7eae5"),
    (0.6, "#5ab4ac"),
    (0.8, "#01665e"),
    (1.0, "#003c30"),
)
"""Values of an index and their colours, in figures, reports and styles of QGIS alike: brown to
green-blue, told apart by the colour-blind (ColorBrewer BrBG)."""


def list_indices() -> list[str]:
    """Return the names that `index` accepts; formulas are in `xharmonize.cube.indices.INDICES`.

    Examples
    --------
    >>> list_indices()[:3]
    ['bsi', 'evi', 'evi2']
    """
    return sorted(INDICES)


def index(cube: Cube, name: str = "ndvi", *, label: str | None = None) -> Cube:
    """Compute a spectral index, lazily: one by name, or a formula.

    Near infrared is ``nir08`` (B8A, b5) if the cube has it, otherwise ``nir`` (B08), for all
    dates; the attributes ``bands`` and ``history`` record which.

    Parameters
    ----------
    cube : DataArray or Dataset
        (time, band, y, x) reflectance [1] with its contract. The companions of a Dataset are
        carried along: `qa` unchanged, `uncertainty` propagated to first order, `origin` and `flag`
        combined by OR and `valid_fraction` by minimum over the bands used. `flag` also gets
        ``undefined_index``.
    name : str
        One of `list_indices`; a formula of bands, such as ``"(nir - red) / (nir + red + 0.16)"``,
        of ``+ - * / **``, brackets, numbers, ``abs``, ``exp``, ``log``, ``log10``, ``sqrt`` and
        ``tanh``; or, where `spyndex` is installed, an index of Awesome Spectral Indices, with its
        default constants.
    label : str, optional
        Name of the result; by default that of the index, and ``"index"`` for a formula.

    Returns
    -------
    DataArray or Dataset
        (time, y, x), float32, named after the index [1]. NaN where a band is missing and, for those
        of `list_indices`, where the denominator is below 0.01 or, of normalised differences, a band
        is not positive. Other formulas are taken as written: NaN only where they are not finite.
        One that is written as an index of `list_indices` is, is that index.

    Raises
    ------
    BandError
        If the index is unknown, the formula is none, or the cube lacks a band it needs.
    RadiometryError
        If the cube holds digital numbers or is not in units of reflectance.

    References
    ----------
    Montero, D., et al. (2023). A standardized catalogue of spectral indices to advance the use of
    remote sensing in Earth system research. Scientific Data, 10, 197.
    doi:10.1038/s41597-023-02096-0
    """
    cube = at_door(cube)
    spec = get_index(name)
    spec = spec if label is None else replace(spec, name=label)
    if isinstance(cube, xr.DataArray):
        return _index_array(cube, spec)
    if REFLECTANCE not in cube:
        raise ContractError(
            "the Dataset has no variable 'reflectance'",
            cure=f"it has {sorted(map(str, cube.data_vars))}",
        )
    value = _index_array(cube[REFLECTANCE], spec)
    result = value.to_dataset(name=spec.name).assign(_companions(cube, spec, value))
    return result.assign_attrs(cube.attrs)


def get_index(name: str) -> SpectralIndex:
    """Return the definition of an index, or of a formula.

    Raises
    ------
    BandError
        If there is none of that name, or the formula is none.
    """
    if name in INDICES:
        return INDICES[name]
    if not re.fullmatch(r"\w+", name):
        return _read_formula(name)
    others = ", or install others with pip install 'xharmonize[indices]'"
    if find_spec("spyndex") is not None:
        import spyndex

        if name in spyndex.indices:
            return _of_spyndex(spyndex.indices[name], spyndex.constants)
        others = f", or one of the {len(spyndex.indices)} of spyndex.indices"
    raise BandError(
        f"index {name!r} is unknown",
        cure=f"{suggest(name, INDICES)}choose one of {', '.join(list_indices())}, write a formula "
        f"such as '(nir - red) / (nir + red)'{others}",
        value=name,
    )


def _read_formula(text: str) -> SpectralIndex:
    found = _from_formula("index", text, text, citation="")
    return next((spec for spec in _INDICES if formulas.is_same(spec.formula, text)), found)


def _from_formula(name: str, text: str, long_name: str, citation: str) -> SpectralIndex:
    try:
        formula = formulas.read_formula(text)
    except ValueError as error:
        raise BandError(
            f"is no formula of bands: {error}",
            cure="write one such as '(nir - red) / (nir + red)'",
            argument="name",
            value=text,
        ) from None
    return SpectralIndex(
        name=name,
        long_name=long_name,
        roles=formula.names,
        formula=formula.text,
        terms=formula,
        is_scale_free=False,
        citation=citation,
    )


_BANDS_OF_SPYNDEX = {
    "A": "coastal",
    "B": "blue",
    "G": "green",
    "R": "red",
    "RE1": "rededge1",
    "RE2": "rededge2",
    "RE3": "rededge3",
    "N": "nir",
    "N2": "nir08",
    "S1": "swir16",
    "S2": "swir22",
    "VV": "vv",
    "VH": "vh",
}


def _of_spyndex(found: Any, constants: Mapping[str, Any]) -> SpectralIndex:
    """The definition of an index of spyndex, its constants filled in."""

    def spelled(match: re.Match[str]) -> str:
        name = match[0]
        if name in _BANDS_OF_SPYNDEX:
            return _BANDS_OF_SPYNDEX[name]
        value = getattr(constants.get(name), "default", None)
        if name in formulas.FUNCTIONS or not isinstance(value, int | float):
            return name
        return repr(float(value))

    words = set(re.findall(r"(?<![\w.])[A-Za-z]\w*", found.formula))
    lacking = sorted(w for w in words if not _is_known(w, constants))
    if lacking:
        raise BandError(
            f"index {found.short_name!r} needs {lacking[0]!r}, which no sensor here has",
            cure="write a formula of common names",
            value=found.short_name,
        )
    text = re.sub(r"(?<![\w.])[A-Za-z]\w*", spelled, found.formula)
    return _from_formula(found.short_name, text, found.long_name, citation=str(found.reference))


def _is_known(word: str, constants: Mapping[str, Any]) -> bool:
    default = getattr(constants.get(word), "default", None)
    return word in _BANDS_OF_SPYNDEX or word in formulas.FUNCTIONS or default is not None


def bands_for(name: str) -> tuple[str, ...]:
    """Common names of the bands to open for an index; of two near infrareds the narrow one.

    Raises
    ------
    BandError
        If there is no index of that name.
    """
    return tuple("nir08" if role == "nir" else role for role in get_index(name).roles)


def _index_array(cube: xr.DataArray, spec: SpectralIndex) -> xr.DataArray:
    require_reflectance(cube)
    cube = plain_numbers(cube)
    units = str(cube.attrs.get("units", "1"))
    if units != "1":
        raise RadiometryError(
            f"{spec.name} needs reflectance in units of 1, the cube says units={units!r}",
            cure="convert it or settle its meaning with xh.describe(cube, sensor=..., ...)",
        )
    bands = bands_of(cube, spec)
    data = [_band(cube, band).data for band in bands]
    values = _map(partial(_value_block, terms=spec.terms), data, f"index-{spec.name}", "float32")
    formula = re.sub(r"\bnir\b", _nir(cube), spec.formula)
    doi = f", doi:{spec.doi}" if spec.doi else ""
    attrs = {
        "units": "1",
        "long_name": spec.long_name,
        "bands": " ".join(bands),
    }
    if spec.citation:
        attrs["references"] = f"{spec.citation}{doi}"
    if "history" in cube.attrs:
        attrs["history"] = cube.attrs["history"]
    result = _band(cube, bands[0]).copy(data=values).rename(spec.name)
    result.attrs = with_history(attrs, f"index: {spec.name} = {formula}")
    return result


def bands_of(cube: xr.DataArray, spec: SpectralIndex) -> tuple[str, ...]:
    """Return the bands of the cube for the roles of an index, or raise `BandError`."""
    bands = tuple(_nir(cube) if role == "nir" else role for role in spec.roles)
    require_bands(cube, bands, what=f"index {spec.name!r}")
    return bands


def _nir(cube: xr.DataArray) -> str:
    """Near infrared of the cube, one band for all dates."""
    return "nir08" if "nir08" in cube["band"].values else "nir"


def _band(array: xr.DataArray, band: str) -> xr.DataArray:
    """One band without the coordinates along `band`; the array itself if it has no bands."""
    if "band" not in array.dims:
        return array
    along = [name for name, coord in array.coords.items() if "band" in coord.dims]
    return array.sel(band=band).drop_vars(along).transpose("time", "y", "x")


def _companions(
    cube: xr.Dataset, spec: SpectralIndex, value: xr.DataArray
) -> dict[str, xr.DataArray]:
    """Companions of an index from those of its bands."""
    bands = bands_of(cube[REFLECTANCE], spec)
    data = [_band(cube[REFLECTANCE], band).data for band in bands]
    found = {}
    for name in companions_of(cube):
        layer = cube[name]
        if COMPANIONS[name].over_bands is not None:
            used = layer.sel(band=list(bands)) if "band" in layer.dims else layer
            found[name] = join_bands(used, name)
            continue
        layer = spread_over(layer, cube[REFLECTANCE])
        layers = [_band(layer, band) for band in bands]
        values = _map(
            partial(_uncertainty_block, terms=spec.terms),
            [*data, *(one.data for one in layers)],
            f"index-uncertainty-{spec.name}",
            "float32",
        )
        found[name] = layers[0].copy(data=values)
    undefined = _map(
        partial(_flag_block, terms=spec.terms), data, f"index-flag-{spec.name}", "uint8"
    )
    flag = with_flags(found.get("flag"), value.copy(data=undefined))
    return blank_missing({**found, "flag": flag}, value)


def _map(function: Callable[..., AnyArray], data: list[Any], name: str, dtype: str) -> Any:
    """Apply a block function to aligned arrays, at once or lazily."""
    signature = f"{','.join(['...'] * len(data))}->..."
    return map_blocks(function, signature, *data, dtype=dtype, name=name)


def _value_block(*bands: AnyArray, terms: RatioTerms | Formula) -> AnyArray:
    if isinstance(terms, Formula):
        return formulas.formula_index(bands, terms)
    return kernels.ratio_index(bands, terms)


def _flag_block(*bands: AnyArray, terms: RatioTerms | Formula) -> AnyArray:
    if isinstance(terms, Formula):
        undefined = formulas.formula_undefined(bands, terms)
    else:
        undefined = kernels.ratio_undefined(bands, terms)
    return undefined.astype(np.uint8) * np.uint8(ResultFlag.UNDEFINED_INDEX)


def _uncertainty_block(*layers: AnyArray, terms: RatioTerms | Formula) -> AnyArray:
    half = len(layers) // 2
    if isinstance(terms, Formula):
        return formulas.formula_uncertainty(layers[:half], layers[half:], terms)
    return kernels.ratio_uncertainty(layers[:half], layers[half:], terms)
