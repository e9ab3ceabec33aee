"""Linear models fitted on pairs of observations, and their application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import (
    REFLECTANCE,
    Step,
    select_bands,
    suggest_names,
)
from xharmonize.cube.door import at_door
from xharmonize.errors import (
    BandError,
    FitError,
    GridError,
    ModelError,
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
from xharmonize.harmonizers.paired import Pairs, common_bands, fit_attrs, pixel_size, read_pairs
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
from xharmonize.types import AnyArray, BoolArray, Float64Array

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
    by: Literal["season"] | None = None,
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
    by : {"season"}, optional
        Whether each season (DJF, MAM, JJA, SON, of the source's dates) has a fit of its own, where
        there are years of pairs. It is applied to dates of the seasons that have pairs only.
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
        effects of dates ``date_sd`` (band), their standard deviation. With `by`,
        all but what is along ``pair`` is along ``season`` too. Attributes hold direction, level,
        bandpasses and dates.

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
    if by not in (None, "season"):
        raise FitError("is unknown", cure="give 'season' or None", argument="by", value=by)
    data = read_pairs(pairs, predictors=predictors, allow_mixed_levels=allow_mixed_levels)

    def fitted(part: Pairs) -> xr.Dataset:
        if method == "multiband":
            return fit_multiband(part, recipe, n_min=n_min)
        if recipe == Recipe(weight=weight):
            return _fit_lines(part, method=method, ratio=ratio, weight=weight, n_min=n_min)
        return _fit_lines_by(part, recipe, n_min=n_min)

    fit = fitted(data) if by is None else _fit_by_season(data, fitted)
    facts = {**data.facts, "method": method, **recipe_attrs(recipe)}
    return fit.assign_coords(pair=data.dates).assign_attrs(
        fit_attrs(LINEAR, facts, data.dates, min_valid=min_valid)
    )


SEASON = "season"
SEASONS = ("DJF", "MAM", "JJA", "SON")


def seasons_of(times: Any) -> AnyArray:
    """Names of the seasons of dates, by the first letters of their months: (time,) str array."""
    months = np.asarray(times, "datetime64[M]").astype(int) % 12 + 1
    names: AnyArray = np.array(SEASONS)[months % 12 // 3]
    return names


def _fit_by_season(data: Pairs, fitted: Callable[[Pairs], xr.Dataset]) -> xr.Dataset:
    """Fit the pairs of each season by themselves."""
    names = seasons_of(data.source_time)
    places = {name: np.flatnonzero(names == name) for name in SEASONS if (names == name).any()}
    parts = []
    for name, index in places.items():
        try:
            parts.append(fitted(data.take(index)))
        except FitError as error:
            raise FitError(
                f"of the {len(index)} pair{'s' * (len(index) > 1)} of {name}: {error.what}",
                cure=error.cure or "give more pairs of that season, or leave out by=",
            ) from error
    of_pairs = [n for n, variable in parts[0].data_vars.items() if "pair" in variable.dims]
    season = xr.DataArray(list(places), dims=SEASON, name=SEASON)
    fit = xr.concat([part.drop_vars(of_pairs) for part in parts], season)
    order = np.argsort(np.concatenate(list(places.values())), kind="stable")
    along = xr.concat([part[of_pairs] for part in parts], "pair").isel(pair=order)
    return fit.assign(along.data_vars)


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

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> Checked:
        """Refuse also dates of a season without pairs."""
        checked = super().check(cube)
        if SEASON in self.fit.dims:
            known = self.fit[SEASON].values.tolist()
            due = seasons_of(cube["time"].values)[np.array(checked.is_due, bool)]
            lacking = sorted(set(due.tolist()) - set(known))
            if lacking:
                raise FitError(
                    f"{self.name} has no pairs of {', '.join(lacking)}, and dates of the cube are "
                    f"of it; it has {', '.join(known)}",
                    cure="give pairs of that season, or fit without by='season'",
                )
        return checked

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply the fit: in one pass to all dates, except for fits from several bands."""
        is_due = np.array(checked.is_due)
        if SEASON in self.fit.dims:
            steps = [step for step, due in zip(checked.steps, checked.is_due) if due]
            return base.change_steps(cube, checked.is_due, partial(self._each_season, steps=steps))
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

    def _each_season(self, cube: xr.Dataset, steps: Sequence[Step]) -> xr.Dataset:
        """Apply the fit of its own season to each date; all are due."""
        names, parts, places = seasons_of(cube["time"].values), [], []
        for name in dict.fromkeys(names.tolist()):
            here = np.flatnonzero(names == name)
            own = replace(self, fit=self.fit.sel({SEASON: name}, drop=True))
            checked = Checked(steps=tuple(steps[int(i)] for i in here), is_due=(True,) * len(here))
            parts.append(own.changed(cube.isel(time=here), checked))
            places.append(here)
        joined = xr.concat(parts, "time", data_vars="all", coords="different", join="override",
                           compat="equals", combine_attrs="override")  # fmt: skip
        return joined.isel(time=np.argsort(np.concatenate(places), kind="stable"))

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
