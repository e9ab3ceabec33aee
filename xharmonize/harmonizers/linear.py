"""Linear models fitted on pairs of observations, and their application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import (
    REFLECTANCE,
    read_coordinate,
    require_reflectance,
    select_bands,
    suggest_names,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import require_same_grid
from xharmonize.cube.pairs import on_target_grid
from xharmonize.errors import (
    BandError,
    FitError,
    GridError,
    ModelError,
    RadiometryError,
    suggest,
)
from xharmonize.harmonizers import base
from xharmonize.harmonizers.multiband import (
    Loss,
    Prior,
    Recipe,
    Scale,
    Weight,
    padded_by_one,
    solve,
    take_samples,
)
from xharmonize.harmonizers.protocol import Checked, Fitted
from xharmonize.harmonizers.sums import (
    MIN_SAMPLES_PER_COEFFICIENT,
    line_block,
    require_samples,
    require_spread,
    sum_pairs,
    weighted,
)
from xharmonize.kernels import regression, robust
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
    pairs: xr.Dataset | xr.DataTree,
    *,
    predictors: xr.DataArray | xr.Dataset | None = None,
    allow_mixed_levels: bool = False,
) -> Pairs:
    """Check matched pairs and separate source and target.

    Parameters
    ----------
    pairs : Dataset or DataTree
        From `xharmonize.match_pairs`: ``source`` (pair, band, y, x) and ``target``
        (pair, band, y, x), with coordinates ``time_source``, ``time_target``, ``level_source``…
        along ``pair``. The source may have other bands, along ``source_band``. Pairs from
        `xharmonize.collect_pairs` are brought to the grid of the target.
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
    if isinstance(pairs, xr.DataTree):
        pairs = on_target_grid(pairs)
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


def fit_linear(
    pairs: xr.Dataset | xr.DataTree,
    *,
    method: Method = "ols",
    predictors: xr.DataArray | xr.Dataset | None = None,
    loss: Loss = "squares",
    ratio: float = 1.0,
    ridge: float = 0.0,
    prior: Prior = "zero",
    weight: Weight = "pixel",
    date_effects: bool = False,
    neighbours: bool = False,
    scale: Scale = "linear",
    n_min: int | None = None,
    min_valid: float = 0.5,
    allow_mixed_levels: bool = False,
) -> xr.Dataset:
    """Fit a linear model from the source to the target bandpass on matched pairs; computes.

    One pass over the pairs accumulates float64 sums, from which the fit is calculated; a Huber loss
    takes some ten passes, so compute pairs first if reading them is slow. The result does not
    depend on chunks or the scheduler.

    Parameters
    ----------
    pairs : Dataset or DataTree
        ``source`` and ``target`` (pair, band, y, x) on one grid, from `xharmonize.match_pairs`; NaN
        where missing. Or pairs from `xharmonize.collect_pairs`, whose source is averaged to the
        grid of the target.
    method : {"ols", "multiband", "deming"}
        ``ols``: target = slope * source + intercept, band by band. ``multiband``: each target band
        from all source bands. ``deming``: a line that accounts for errors on both sides; the only
        fit that can be inverted.
    predictors : cube, optional
        The source cube, to also use bands that the target lacks for ``multiband`` (`match_pairs`
        keeps common bands only). Its observations at the times of the pairs are used.
    loss : {"squares", "huber"}
        ``huber``: residuals beyond one standard deviation count by their size instead of their
        square, so that edges, haze and mown fields weigh less. The deviation is estimated for each
        pair and band from the median of absolute residuals.
    ratio : float
        For ``deming``: error variance of the target divided by that of the source.
    ridge : float
        Penalty on the squared coefficients of standardised predictors, relative to the mean squared
        residual: ``sklearn.linear_model.Ridge`` with ``alpha`` of `ridge` times the number of
        samples.
    prior : {"zero", "identity"}
        Coefficients towards which `ridge` draws; ``identity``: 1 for the band itself, 0 for others.
    weight : {"pixel", "pair"}
        Whether each pixel or each pair has the same weight.
    date_effects : bool
        For ``multiband``: whether each pair has a level of its own (a random effect), with a
        variance estimated by moments. It keeps levels of dates from bending the slopes. Below eight
        pairs the variance is taken as 0.
    neighbours : bool
        For ``multiband``: whether the mean of 3 x 3 pixels and the gradients in x and y are
        predictors too. Such a fit applies to its own pixel size only.
    scale : {"linear", "log"}
        For ``multiband``: ``log`` fits the logarithm of the target on logarithms. Pixels with
        reflectance of 0 or less in any band are left out, and missing when the fit is applied;
        values below the smallest of the fit are taken as that.
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
        ``slope`` (band), ``matrix`` (band, source_band) or, with neighbours, (band, term,
        source_band); ``intercept`` (band) [1], ``n`` (band), ``rmse`` (band) [1] and ``r2`` (band;
        1 - SSE/SST) on the samples of the fit, on its scale; ``n_of_pair`` (pair, band). With a
        Huber loss ``deviation`` (pair, band), the robust standard deviation of residuals; with
        effects of dates ``date_sd`` (band), their standard deviation. Attributes hold direction,
        level, bandpasses and dates.

    Raises
    ------
    FitError
        If there are fewer than `n_min` samples, a source band does not vary, or an option does not
        apply to the method.

    References
    ----------
    Huber, P. J. (1964). Robust estimation of a location parameter. The Annals of Mathematical
    Statistics 35. doi:10.1214/aoms/1177703732
    """
    pairs, predictors = at_door(pairs), at_door(predictors)
    recipe = Recipe(
        loss=loss,
        ridge=ridge,
        prior=prior,
        weight=weight,
        neighbours=neighbours,
        scale=scale,
        date_effects=date_effects,
    )
    _require_options(method, ratio=ratio, recipe=recipe)
    data = read_pairs(pairs, predictors=predictors, allow_mixed_levels=allow_mixed_levels)
    if method == "multiband":
        fit = fit_multiband(data, recipe, n_min=n_min)
    elif recipe == Recipe(weight=weight):
        fit = _fit_lines(data, method=method, ratio=ratio, weight=weight, n_min=n_min)
    else:
        fit = _fit_lines_by(data, recipe, n_min=n_min)
    facts = {**data.facts, "method": method, **recipe_attrs(recipe)}
    return fit.assign_coords(pair=data.dates).assign_attrs(
        fit_attrs(LINEAR, facts, data.dates, min_valid=min_valid)
    )


def recipe_attrs(recipe: Recipe) -> dict[str, Any]:
    """Attributes that say how a fit was made: its weight, and what is not the default."""
    usual = Recipe()
    names = ("loss", "ridge", "prior", "neighbours", "scale", "date_effects")
    own = {n: getattr(recipe, n) for n in names if getattr(recipe, n) != getattr(usual, n)}
    text = {n: str(v).lower() if isinstance(v, bool) else v for n, v in own.items()}
    return {"weight": recipe.weight, **text}


def _require_options(method: str, *, ratio: float, recipe: Recipe) -> None:
    """Raise `FitError` for an unknown method, or for options that it would ignore."""
    if method not in ("ols", "multiband", "deming"):
        raise FitError(
            "is unknown",
            cure=f"{suggest(method, ('ols', 'multiband', 'deming'))}choose 'ols', 'multiband' or "
            "'deming'",
            argument="method",
            value=method,
        )
    if ratio != 1 and method != "deming":
        raise FitError(f"ratio={ratio} is for method='deming', not {method!r}", cure="leave it out")
    both = "method='ols' and 'multiband'"
    usual = Recipe()
    for name, whose in {
        "loss": both,
        "ridge": both,
        "prior": both,
        "neighbours": "method='multiband'",
        "scale": "method='multiband'",
        "date_effects": "method='multiband'",
    }.items():
        value = getattr(recipe, name)
        if value != getattr(usual, name) and repr(method) not in whose:
            raise FitError(f"{name}={value!r} is for {whose}, not {method!r}", cure="leave it out")
    if recipe.prior != "zero" and not recipe.ridge:
        raise FitError("needs a ridge", cure="give ridge=", argument="prior", value=recipe.prior)
    if not ratio > 0:
        raise FitError("must be positive", argument="ratio", value=ratio)


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
    per_pair = np.asarray(sum_pairs(line_block, source, target, (len(names), 6)))
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


def _fit_lines_by(data: Pairs, recipe: Recipe, *, n_min: int | None) -> xr.Dataset:
    """Fit a line per band by a recipe."""
    fits = []
    for name in common_bands(data):
        part = replace(
            data, source=data.source.sel(source_band=[name]), target=data.target.sel(band=[name])
        )
        fits.append(fit_multiband(part, recipe, n_min=n_min).squeeze("source_band", drop=True))
    return xr.concat(fits, "band").rename(matrix="slope")


def fit_multiband(data: Pairs, recipe: Recipe, *, n_min: int | None) -> xr.Dataset:
    """Fit each target band on all source bands by a recipe; see `fit_linear`."""
    fit = solve(take_samples(data.source, data.target, recipe), recipe, n_min=n_min)
    if recipe.neighbours:
        fit.attrs["pixel_size"] = pixel_size(data.target)
    return fit


def pixel_size(array: xr.DataArray) -> list[float]:
    """Width and height of a pixel [unit of the CRS], NaN along an axis of one pixel."""
    steps = [
        np.diff(array[name].values[:2]) if array.sizes[name] > 1 else [np.nan] for name in "xy"
    ]
    return [abs(float(step[0])) for step in steps]


def common_bands(data: Pairs) -> list[str]:
    """Bands that source and target both have, in the target's order."""
    present = set(map(str, data.source["source_band"].values))
    names = [str(name) for name in data.target["band"].values if str(name) in present]
    if not names:
        raise BandError(
            f"source and target share no band: {sorted(present)} and "
            f"{list(map(str, data.target['band'].values))}",
            cure=suggest_names(sorted(present), map(str, data.target["band"].values))
            or "fit method='multiband'",
        )
    return names


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
        return self.with_uncertainty(cube, result, is_due)

    def _mix(self, cube: xr.Dataset) -> xr.Dataset:
        """Map all source bands to all target bands."""
        array = cube[REFLECTANCE]
        sources, names = list(self.bands), [str(name) for name in self.fit["band"].values]
        data = apply_matrix_fit(self.fit, select_bands(array, sources))
        result = base.rebuild(array, data, self._target(array, names, sources))
        return self.with_uncertainty(cube, result, np.ones(array.sizes["time"], bool))

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

    def with_uncertainty(
        self, cube: xr.Dataset, result: xr.DataArray, is_due: BoolArray
    ) -> xr.Dataset:
        """Propagate the uncertainty to first order, taking errors of bands as independent.

        Neighbouring pixels are taken to share their error, so that gradients have none.
        """
        whole = result.to_dataset(name=REFLECTANCE)
        if base.UNCERTAINTY not in cube:
            return whole
        sigma = cube[base.UNCERTAINTY]
        matrix, sources, names = self._matrix(cube[REFLECTANCE])
        weights = xr.DataArray(matrix**2, dims=("band", "source_band"))
        known = sigma.sel(band=sources)
        if is_log(self.fit):
            known = known / select_bands(cube[REFLECTANCE], sources)
        squares = (known**2).drop_vars("band").rename(band="source_band")
        variance = xr.dot(weights, squares, dim="source_band")
        own: xr.DataArray = (variance**0.5).assign_coords(band=names)
        if is_log(self.fit):
            own = own * result
        if not is_due.all():
            own = own.where(xr.DataArray(is_due, dims="time"), sigma.sel(band=names))
        own = own.transpose(*sigma.dims).astype("float32")
        return whole.assign({base.UNCERTAINTY: own})

    def _matrix(self, array: xr.DataArray) -> tuple[Float64Array, list[str], list[str]]:
        """Coefficients (band, source_band), the source bands they need, and the target bands."""
        names = [str(name) for name in self.fit["band"].values]
        if "matrix" in self.fit:
            matrix = self.fit["matrix"]
            if "term" in matrix.dims:
                matrix = matrix.sel(term=["value", "mean"]).sum("term")
            return matrix.values, list(self.bands), names
        present = set(map(str, array["band"].values))
        names = [name for name in names if name in present]
        if not names:
            raise BandError(
                f"{self.name} has lines for {self.bands}",
                cure=f"{suggest_names(sorted(present), self.bands)}the cube has {sorted(present)}",
            )
        return np.diag(self.fit["slope"].sel(band=names).values), names, names


def is_log(fit: xr.Dataset) -> bool:
    """Whether a fit relates logarithms."""
    return bool(fit.attrs.get("scale", "linear") == "log")


def apply_matrix_fit(fit: xr.Dataset, array: xr.DataArray) -> Any:
    """Apply the ``matrix`` of a fit to its source bands: (time, band, y, x) float32, lazily."""
    data, terms = array.data, None
    sizes: dict[str, Any] = {}
    if "term" in fit.dims:
        require_pixel_size(fit, array)
        terms = fit["matrix"].transpose("band", "term", "source_band").values
        data, sizes = padded_by_one(data)
    return map_blocks(
        partial(_apply_block, terms=terms, lowest=fit["lowest"].values if is_log(fit) else None),
        "tsyx,bs,b->tbyx",
        data,
        fit["matrix"].values if terms is None else terms.sum(axis=1),
        fit["intercept"].values,
        sizes=sizes,
        dtype=np.float32,
        name="harmonize-linear",
    )


def require_pixel_size(fit: xr.Dataset, array: xr.DataArray) -> None:
    """Refuse a cube whose pixels are not those of a fit with neighbouring pixels."""
    wanted, given = (np.asarray(a, float) for a in (fit.attrs["pixel_size"], pixel_size(array)))
    if (np.abs(wanted - given) > 1e-6 * wanted).any():  # False where an axis has one pixel
        raise GridError(
            f"the fit has neighbouring pixels as predictors, on pixels of {wanted.tolist()}, and "
            f"the cube's are {given.tolist()}",
            cure="pass like= with a cube on the grid of the pairs, or fit with neighbours=False",
        )


def _apply_block(
    values: AnyArray,
    matrix: Float64Array,
    intercept: Float64Array,
    *,
    terms: Float64Array | None,
    lowest: Float64Array | None,
) -> AnyArray:
    """Apply a fit to a block, with a margin of one pixel if it has terms."""
    if lowest is not None:
        values = robust.logarithm(values, lowest[:, None, None])
    values = np.ascontiguousarray(values)
    if terms is None:
        result = regression.apply_matrix(values, matrix, intercept)
    else:
        result = robust.apply_terms(values, np.ascontiguousarray(terms), intercept)
    return result if lowest is None else np.asarray(np.exp(result))
