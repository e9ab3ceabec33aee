"""Linear models fitted on pairs of observations, and their application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, read_coordinate, require_reflectance, select_bands
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import require_same_grid
from xharmonize.errors import BandError, FitError, ModelError, RadiometryError
from xharmonize.harmonizers import base
from xharmonize.harmonizers.protocol import Checked, Fitted
from xharmonize.kernels import regression
from xharmonize.sensors import UNKNOWN, Names
from xharmonize.types import AnyArray, BoolArray, Float64Array, IntArray

_FIELDS = ("bandpass", "level", "platform", "sensor")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Matched pairs and their metadata.

    Attributes
    ----------
    source, target : (pair, band, y, x) DataArray
        Reflectance [1] on one grid; NaN where missing.
    source_time, target_time : (pair,) datetime64 array
        Times of the two observations [UTC].
    facts : dict of str to str
        ``source_bandpass``, ``target_level``… : the values found, joined by `Names`.
    """

    source: xr.DataArray
    target: xr.DataArray
    source_time: Any
    target_time: Any
    facts: dict[str, str]

    @property
    def lag(self) -> IntArray:
        """Whole days between the two observations [day], (pair,).

        The rounded time difference rather than the difference of UTC dates: over the Pacific,
        midnight UTC can lie between two observations of one morning.
        """
        gap = np.asarray(self.source_time) - np.asarray(self.target_time)
        return np.asarray(np.rint(np.abs(gap) / np.timedelta64(1, "D")), np.int64)

    @property
    def dates(self) -> list[str]:
        """Dates of the pairs, ``source/target``."""
        first, second = (
            np.datetime_as_string(np.asarray(time).astype("datetime64[D]"))
            for time in (self.source_time, self.target_time)
        )
        return [f"{a}/{b}" for a, b in zip(first, second)]


def read_pairs(
    pairs: xr.Dataset,
    *,
    predictors: xr.DataArray | xr.Dataset | None = None,
    allow_mixed_levels: bool = False,
) -> Pairs:
    """Check matched pairs and separate source and target.

    Parameters
    ----------
    pairs : Dataset
        From `xharmonize.match_pairs`: ``source`` (pair, band, y, x) and ``target``
        (pair, band, y, x), with coordinates ``time_source``, ``time_target``, ``level_source``…
        along ``pair``. The source may have other bands, along ``source_band``.
    predictors : cube, optional
        Cube to take the source from instead, with all its bands, at ``time_source``.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.

    Raises
    ------
    FitError
        If there are no pairs, or variables are missing.
    RadiometryError
        If only one side is normalised to nadir view (NBAR), or levels vary.
    """
    if not isinstance(pairs, xr.Dataset) or not {"source", "target"} <= set(pairs.data_vars):
        raise FitError(
            "a fit needs a Dataset with 'source' and 'target'",
            cure="make one with xh.match_pairs(source, target, tolerance='2D')",
        )
    if not pairs.sizes.get("pair", 0):
        raise FitError("there are no pairs", cure="allow more days with match_pairs(tolerance=...)")
    source, target = pairs["source"], pairs["target"]
    if predictors is not None:
        source = _observations(predictors, pairs)
    if "source_band" not in source.dims:
        source = source.rename(band="source_band")
    facts = {
        f"{side}_{field}": _values(pairs, f"{field}_{side}")
        for side in ("source", "target")
        for field in _FIELDS
    }
    if not allow_mixed_levels:
        _require_same_view(pairs)
    return Pairs(
        source=source.transpose("pair", "source_band", "y", "x"),
        target=target.transpose("pair", "band", "y", "x"),
        source_time=read_coordinate(pairs, "time_source"),
        target_time=read_coordinate(pairs, "time_target"),
        facts=facts,
    )


def _require_same_view(pairs: xr.Dataset) -> None:
    """Raise `RadiometryError` if only one side of a pair is normalised to nadir view."""
    sides = (_along_pairs(pairs, "level_source"), _along_pairs(pairs, "level_target"))
    for source, target in zip(*np.broadcast_arrays(*sides)):
        if source != target and "NBAR" in Names.of([source, target]):
            raise RadiometryError(
                f"the source is {source} and the target {target}: normalising one sensor of a "
                "pair only biases the fit",
                cure="apply nbar to both, or pass allow_mixed_levels=True",
            )


def _observations(cube: xr.DataArray | xr.Dataset, pairs: xr.Dataset) -> xr.DataArray:
    """Time steps of a cube at the source times of the pairs: (pair, band, y, x)."""
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    require_reflectance(array)
    require_same_grid(array, pairs.assign_coords(spatial_ref=array["spatial_ref"]), what="a fit")
    place = {time: i for i, time in reversed(list(enumerate(array["time"].values)))}
    times = read_coordinate(pairs, "time_source")
    lost = [str(time)[:19] for time in times if time not in place]
    if lost:
        raise FitError(
            f"predictors= has no observation at {lost[0]} and {len(lost) - 1} other times"
        )
    observations = array.isel(time=[place[time] for time in times])
    bare = observations.drop_vars([n for n in observations.coords if n not in ("band", "y", "x")])
    return bare.rename(time="pair")


def _values(pairs: xr.Dataset, name: str) -> str:
    """Distinct values of a coordinate along the pairs, joined by `Names`."""
    return str(Names.of(_along_pairs(pairs, name)))


def _along_pairs(pairs: xr.Dataset, name: str) -> AnyArray:
    known = name in pairs.coords
    found: AnyArray = np.atleast_1d(read_coordinate(pairs, name) if known else UNKNOWN)
    return found


Method: TypeAlias = Literal["ols", "multiband", "deming"]
LINEAR = "linear"
MIN_SAMPLES_PER_COEFFICIENT = 15


def fit_linear(
    pairs: xr.Dataset,
    *,
    method: Method = "ols",
    predictors: xr.DataArray | xr.Dataset | None = None,
    ratio: float = 1.0,
    ridge: float = 0.0,
    weight: Literal["pixel", "pair"] = "pixel",
    n_min: int | None = None,
    min_valid: float = 0.5,
    allow_mixed_levels: bool = False,
) -> xr.Dataset:
    """Fit a linear model from the source to the target bandpass on matched pairs; computes.

    One pass over the pairs accumulates float64 sums, from which the fit is calculated. The result
    does not depend on chunks or the scheduler.

    Parameters
    ----------
    pairs : Dataset
        ``source`` and ``target`` (pair, band, y, x) on one grid, from `xharmonize.match_pairs`; NaN
        where missing.
    method : {"ols", "multiband", "deming"}
        ``ols``: target = slope * source + intercept, band by band. ``multiband``: each target band
        from all source bands. ``deming``: a line that accounts for errors on both sides; the only
        fit that can be inverted.
    predictors : cube, optional
        The source cube, to also use bands that the target lacks for ``multiband`` (`match_pairs`
        keeps common bands only). Its observations at the times of the pairs are used.
    ratio : float
        For ``deming``: error variance of the target divided by that of the source.
    ridge : float
        For ``multiband``: penalty on squared coefficients, as a fraction of the mean variance of
        the source bands.
    weight : {"pixel", "pair"}
        Whether each pixel or each pair has the same weight.
    n_min : int, optional
        Minimum number of samples per band; by default 15 per coefficient of a band's equation.
    min_valid : float
        Minimum valid fraction of a target pixel [1] when a cube is regridded before the fit is
        applied.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.

    Returns
    -------
    Dataset
        ``slope`` (band) or ``matrix`` (band, source_band), ``intercept`` (band) [1], ``n`` (band),
        ``rmse`` (band) [1] and ``r2`` (band; 1 - SSE/SST) on the samples of the fit, and
        ``n_of_pair`` (pair, band). Attributes hold direction, level, bandpasses and dates.

    Raises
    ------
    FitError
        If there are fewer than `n_min` samples, a source band does not vary, or an option does not
        apply to the method.
    """
    pairs, predictors = at_door(pairs), at_door(predictors)
    _require_options(method, ratio=ratio, ridge=ridge)
    data = read_pairs(pairs, predictors=predictors, allow_mixed_levels=allow_mixed_levels)
    if method == "multiband":
        fit = _fit_multiband(data, ridge=ridge, weight=weight, n_min=n_min)
    else:
        fit = _fit_lines(data, method=method, ratio=ratio, weight=weight, n_min=n_min)
    facts = {**data.facts, "method": method, "weight": weight}
    return fit.assign_coords(pair=data.dates).assign_attrs(
        fit_attrs(LINEAR, facts, data.dates, min_valid=min_valid)
    )


def _require_options(method: str, *, ratio: float, ridge: float) -> None:
    """Raise `FitError` for an unknown method, or for options that it would ignore."""
    if method not in ("ols", "multiband", "deming"):
        raise FitError(
            "is unknown",
            cure="choose 'ols', 'multiband' or 'deming'",
            argument="method",
            value=method,
        )
    if ratio != 1 and method != "deming":
        raise FitError(f"ratio={ratio} is for method='deming', not {method!r}", cure="leave it out")
    if ridge != 0 and method != "multiband":
        raise FitError(
            f"ridge={ridge} is for method='multiband', not {method!r}", cure="leave it out"
        )
    if not ratio > 0 or not ridge >= 0:
        raise FitError(f"ratio={ratio} must be positive and ridge={ridge} not negative")


def fit_attrs(
    kind: str, facts: dict[str, str], dates: Sequence[str], *, min_valid: float
) -> dict[str, Any]:
    """Attributes of every fit: its kind, source and target, and the data it is based on."""
    source, target = facts["source_bandpass"], facts["target_bandpass"]
    words = f"fit_{kind}: {facts.get('method', kind)}, {source} to {target}, {len(dates)} pairs"
    return {
        "model": kind,
        "title": f"{kind} fit, {source} to {target}",
        "direction": f"{source} to {target}",
        **facts,
        "dates": ", ".join(dates),
        "min_valid": min_valid,
        "history": words,
    }


def _fit_lines(
    data: Pairs, *, method: str, ratio: float, weight: str, n_min: int | None
) -> xr.Dataset:
    names = common_bands(data)
    source, target = data.source.sel(source_band=names), data.target.sel(band=names)
    per_pair = np.asarray(sum_pairs(_line_block, source, target, (len(names), 6)))
    moments = weighted(per_pair, per_pair[..., regression.COUNT], weight)
    n = per_pair[..., regression.COUNT].sum(axis=0)
    require_samples(n, names, n_min or 2 * MIN_SAMPLES_PER_COEFFICIENT)
    solve = regression.solve_ols
    slope, intercept = (
        solve(moments) if method == "ols" else regression.solve_deming(moments, ratio)
    )
    rmse, r2 = regression.line_quality(moments, slope, intercept)
    require_spread(names, np.isfinite(slope))
    counts = per_pair[..., regression.COUNT]
    return _dataset(names, slope=slope, intercept=intercept, n=n, rmse=rmse, r2=r2, counts=counts)


def _fit_multiband(data: Pairs, *, ridge: float, weight: str, n_min: int | None) -> xr.Dataset:
    sources = [str(name) for name in data.source["source_band"].values]
    names = [str(name) for name in data.target["band"].values]
    size = 1 + len(sources) + len(names)
    per_pair = np.asarray(sum_pairs(_joint_block, data.source, data.target, (size, size)))
    counts = np.repeat(per_pair[:, :1, 0], len(names), axis=1)
    n = counts.sum(axis=0)
    require_samples(n, names, n_min or (1 + len(sources)) * MIN_SAMPLES_PER_COEFFICIENT)
    moments = weighted(per_pair, per_pair[:, 0, 0], weight)
    require_spread(sources, regression.source_varies(moments, len(sources)))
    matrix, intercept, rmse, r2 = regression.solve_multiband(moments, len(sources), ridge)
    fit = _dataset(names, intercept=intercept, n=n, rmse=rmse, r2=r2, counts=counts)
    return fit.assign(matrix=(("band", "source_band"), matrix)).assign_coords(source_band=sources)


def require_spread(names: Sequence[str], varies: BoolArray) -> None:
    """Raise `FitError` naming the source bands that do not vary, if any."""
    flat = [name for name, is_varied in zip(names, varies) if not is_varied]
    if flat:
        raise FitError(
            f"the source does not vary in band {', '.join(flat)}: no line", cure="add pairs"
        )


def common_bands(data: Pairs) -> list[str]:
    """Bands that source and target both have, in the target's order."""
    present = set(map(str, data.source["source_band"].values))
    names = [str(name) for name in data.target["band"].values if str(name) in present]
    if not names:
        raise BandError(
            f"source and target share no band: {sorted(present)} and "
            f"{list(map(str, data.target['band'].values))}",
            cure="fit method='multiband'",
        )
    return names


def require_samples(n: Float64Array, bands: Sequence[str], n_min: int) -> None:
    """Raise `FitError` naming the bands with fewer than `n_min` samples, if any."""
    few = [f"{band} {int(count)}" for band, count in zip(bands, n) if count < n_min]
    if few:
        raise FitError(
            f"too few samples where both sides are valid ({', '.join(few)}",
            cure=f"at least {n_min} are "
            "needed): use more dates, a longer tolerance, or pass n_min=",
        )


def sum_pairs(
    block: Any,
    source: xr.DataArray,
    target: xr.DataArray,
    shape: tuple[int, ...],
    *,
    dtype: type = np.float64,
) -> AnyArray:
    """Moments of each pair (pair, ...), summed over the chunks in space, in `dtype`."""
    new = dict(zip("kl", shape))
    sums = map_blocks(
        block,
        f"psyx,pbyx->pyx{''.join(new)}",
        source.data,
        target.data,
        new=new,
        sizes={"y": 1, "x": 1},
        dtype=dtype,
        name="fit-linear",
    )
    return np.asarray(sums.sum(axis=(1, 2)))


def _line_block(source: AnyArray, target: AnyArray) -> Float64Array:
    """Band moments (pair, 1, 1, band, 6) of a block."""
    return _block(regression.band_moments, source, target)


def _joint_block(source: AnyArray, target: AnyArray) -> Float64Array:
    """Joint moments (pair, 1, 1, 1 + source_band + band, 1 + source_band + band) of a block."""
    return _block(regression.joint_moments, source, target)


def _block(kernel: Any, source: AnyArray, target: AnyArray) -> Float64Array:
    sums = [kernel(x.reshape(len(x), -1), y.reshape(len(y), -1)) for x, y in zip(source, target)]
    return np.stack(sums)[:, None, None]


def weighted(per_pair: Float64Array, n: Float64Array, weight: str) -> Float64Array:
    """Sum the moments of the pairs, with equal weight of each pixel or each pair."""
    if weight == "pixel":
        return np.asarray(per_pair.sum(axis=0))
    if weight != "pair":
        raise FitError(
            "is unknown", cure="choose 'pixel' or 'pair'", argument="weight", value=weight
        )
    share = np.where(n > 0, 1 / np.maximum(n, 1), 0.0)
    extra = per_pair.ndim - share.ndim
    return np.asarray((per_pair * share.reshape(share.shape + (1,) * extra)).sum(axis=0))


def _dataset(names: Sequence[str], *, counts: Float64Array, **columns: Float64Array) -> xr.Dataset:
    variables: dict[str, Any] = {key: ("band", value) for key, value in columns.items()}
    variables["n"] = ("band", columns["n"].astype(np.int64))
    variables["n_of_pair"] = (("pair", "band"), counts.astype(np.int64))
    return xr.Dataset(variables, coords={"band": list(names)})


@dataclass(frozen=True, kw_only=True)
class LinearHarmonizer(Fitted):
    """Apply a fit of `fit_linear`.

    Attributes
    ----------
    fit : Dataset
        With ``slope`` or ``matrix``, and ``intercept``.
    name : str
        Name in errors and in the history.
    """

    name: str = "linear fit"
    citation: str = "fitted on the pairs named in its attribute dates"

    def inverse(self) -> LinearHarmonizer:
        """Invert a Deming regression; other fits raise an error.

        Raises
        ------
        ModelError
            If the fit minimises errors of one side only: its slopes are diluted by
            misregistration, and inverting them would inflate contrast.
        """
        if self.fit.attrs.get("method") != "deming":
            raise ModelError(
                f"{self.name} ({self.fit.attrs.get('method')}) goes from {self.source_bandpass} to "
                f"{self.target_bandpass} and must not be turned round: misregistration dilutes its "
                "slopes",
                cure="refit with the roles swapped, or with method='deming'",
            )
        swapped = {"source": "target", "target": "source"}
        attrs = {
            f"{swapped[k.split('_')[0]]}_{k.split('_')[1]}"
            if k.startswith(tuple(swapped))
            else k: v
            for k, v in self.fit.attrs.items()
        }
        attrs["direction"] = f"{self.target_bandpass} to {self.source_bandpass}"
        slope = 1 / self.fit["slope"]
        fit = self.fit.assign(slope=slope, intercept=-self.fit["intercept"] * slope)
        return replace(self, fit=fit.assign_attrs(attrs), name=f"{self.name}, turned round")

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply the fit: in one pass to all dates, except for fits from several bands."""
        is_due = np.array(checked.is_due)
        if "matrix" in self.fit:
            return base.change_steps(cube, checked.is_due, self._mix)
        if not is_due.any():
            return base.decoded_set(cube)
        array = cube[REFLECTANCE]
        matrix, names = self._matrix(array)[::2]
        slope = np.where(is_due[:, None], np.diag(matrix), 1.0)
        offset = np.where(is_due[:, None], self.fit["intercept"].sel(band=names).values, 0.0)
        result = base.apply_lines(array, slope, offset, self._target(array, names, names))
        return self._with_uncertainty(cube, result, is_due)

    def _mix(self, cube: xr.Dataset) -> xr.Dataset:
        """Map all source bands to all target bands."""
        array = cube[REFLECTANCE]
        matrix, sources, names = self._matrix(array)
        data = map_blocks(
            regression.apply_matrix,
            "tsyx,bs,b->tbyx",
            select_bands(array, sources).data,
            matrix,
            self.fit["intercept"].values,
            dtype=np.float32,
            name="harmonize-linear",
        )
        result = base.rebuild(array, data, self._target(array, names, sources))
        return self._with_uncertainty(cube, result, np.ones(array.sizes["time"], bool))

    def _target(
        self, array: xr.DataArray, names: Sequence[str], sources: Sequence[str]
    ) -> base.Target:
        attrs = self.fit.attrs
        return base.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names),
            sources=tuple(names),
            history=f"{self.name}: {attrs['direction']}, {attrs['method']} on {attrs['dates']}"
            f"{base.drop_note(array, sources)}",
        )

    def _with_uncertainty(
        self, cube: xr.Dataset, result: xr.DataArray, is_due: BoolArray
    ) -> xr.Dataset:
        """Propagate the uncertainty to first order, taking errors of bands as independent."""
        whole = result.to_dataset(name=REFLECTANCE)
        if base.UNCERTAINTY not in cube:
            return whole
        sigma = cube[base.UNCERTAINTY]
        matrix, sources, names = self._matrix(cube[REFLECTANCE])
        weights = xr.DataArray(matrix**2, dims=("band", "source_band"))
        squares = (sigma.sel(band=sources) ** 2).drop_vars("band").rename(band="source_band")
        variance = xr.dot(weights, squares, dim="source_band")
        own: xr.DataArray = (variance**0.5).assign_coords(band=names)
        if not is_due.all():
            own = own.where(xr.DataArray(is_due, dims="time"), sigma.sel(band=names))
        own = own.transpose(*sigma.dims).astype("float32")
        return whole.assign({base.UNCERTAINTY: own})

    def _matrix(self, array: xr.DataArray) -> tuple[Float64Array, list[str], list[str]]:
        """Coefficients (band, source_band), the source bands they need, and the target bands."""
        names = [str(name) for name in self.fit["band"].values]
        if "matrix" in self.fit:
            return self.fit["matrix"].values, list(self.bands), names
        present = set(map(str, array["band"].values))
        names = [name for name in names if name in present]
        if not names:
            raise BandError(
                f"{self.name} has lines for {self.bands}", cure=f"the cube has {present}"
            )
        return np.diag(self.fit["slope"].sel(band=names).values), names, names
