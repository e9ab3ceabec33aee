"""A fixed recipe that fits the pairs at hand, says how well, and falls back where it fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize._progress import computing, counted
from xharmonize.cube.contract import REFLECTANCE, read_coordinate, select_bands
from xharmonize.cube.geobox import geobox_of, is_same_crs
from xharmonize.cube.pairs import as_cube, shifts_in, source_groups, target_of, with_shifts
from xharmonize.cube.shifts import fit_shifts, without_reference
from xharmonize.errors import BandError, FitError, GridError, RadiometryWarning, warn
from xharmonize.harmonizers.auto_harmonizer import (
    AUTO,
    MEMBERS,
    apply_members,
    published,
    settled,
)
from xharmonize.harmonizers.linear import LinearHarmonizer, fit_linear
from xharmonize.harmonizers.multiband import Recipe, Samples, solve, take_samples
from xharmonize.harmonizers.paired import fit_attrs, pixel_size, read_pairs
from xharmonize.harmonizers.published import table_between
from xharmonize.harmonizers.validation import (
    By,
    Method,
    Pairs,
    as_estimate,
    estimate_left_out,
    gridded,
    mean_scores,
    pick,
    robust_deviation,
    score_estimates,
    source_cube,
    target_side,
)
from xharmonize.types import AnyArray, Float64Array

IDENTITY, OLS = "identity", "ols"
PSF = 3.0
"""Standard deviation of the Gaussian in averages to the target's grid [m]."""
RIDGE, STRONG_RIDGE, FEW = 0.01, 0.1, 3
"""Ridge, and that below so many pairs."""
COVERED = 0.9
"""Least valid fraction of the target pixels that are fitted on [1]."""
SIZE, MOST = 256, 10_000
"""Side of the window in the middle that is fitted on [target pixel]; pixels of a pair in a fit."""
LEAST = 50
"""Least number of valid pixels of a pair that counts, and of a fit."""
_SHIFTS = ("shift_x", "shift_y", "group_x", "group_y")


def fit_auto(
    pairs: xr.DataTree | xr.Dataset,
    *,
    series: xr.DataArray | xr.Dataset | None = None,
    shifts: xr.Dataset | None = None,
    register: bool = True,
    size: int = SIZE,
    allow_one_pair: bool = False,
    allow_mixed_levels: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Fit the recommended model to pairs, and score it on dates left out; computes.

    The recipe is fixed, nothing is chosen by the scores: the dates are registered; the source is
    averaged to the grid of the target by exact area with a point spread of 3 m; every source band
    with its 3 x 3 mean and gradients predicts every target band, with a ridge of 0.01 towards the
    identity and a Huber loss of one robust standard deviation for each band and date; each pair has
    the same weight and, from eight pairs on, an effect of its own. The result is the mean of a
    linear and a logarithmic fit; pixels with reflectance of 0 or less take the linear one. Below
    three pairs the ridge is 0.1, with a warning.

    Each date of the target is then left out in turn (or each quarter of the area, if there is one
    date), and estimated by the recipe from the others. Where its mean ERGAS is not below that of
    the published table for these bandpasses (HLS v2 for Sentinel-2 and Landsat), the model falls
    back to that table.

    Parameters
    ----------
    pairs : DataTree or Dataset
        From `xharmonize.collect_pairs`; from `xharmonize.match_pairs` nothing can be registered.
    series : cube, optional
        All dates of the source, for the network of their shifts; by default those of the pairs.
    shifts : Dataset, optional
        Result of `xharmonize.fit_shifts` with ``reference=`` the target, instead of a new one. By
        default that which the pairs were registered by, if they were.
    register : bool
        Whether to register the dates.
    size : int
        Side of the window in the middle of the target that is fitted on [target pixel]; of a larger
        one than 100, every second or further row and column is used.
    allow_one_pair : bool
        Whether to fit a single pair: what changes from date to date is then in the model.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.
    progress : bool, optional
        Whether to draw a bar; by default on a terminal.

    Returns
    -------
    Dataset
        The fit: ``matrix`` (member, band, term, source_band), ``intercept`` (member, band),
        ``lowest`` (source_band); ``ergas``, ``sam``, ``rmse``… (model, pair): scores on what was
        left out of the model, and of doing nothing, the published table and least squares per band;
        ``between`` (band), the standard deviation of the level of dates [1], with its sign a single
        pattern of all bands, NaN for one date; ``within`` (band), that of pixels within a date [1];
        the shifts of dates. The attribute ``uses`` is ``"auto"``, or the table it falls back to.

    Raises
    ------
    BandError
        If the target has a band that the source lacks.
    FitError
        If there is no pair with pixels valid on both sides, or one only and not `allow_one_pair`;
        or the model is no better than doing nothing and there is no published table.
    RadiometryError
        If only one side is normalised to nadir view.
    """
    _require_pairs(pairs)
    moved = None
    if isinstance(pairs, xr.DataTree):  # what it is compared with is not registered
        shifts = shifts_in(pairs) if shifts is None else shifts
        pairs = with_shifts(pairs, None)
    chosen = _clear_pairs(_window(pairs, size))
    n_dates = np.unique(_days(chosen)).size
    _require_dates(n_dates, allow_one_pair=allow_one_pair)
    note = "not registered"
    if register and isinstance(pairs, xr.DataTree):
        with computing("Registering", progress):
            moved, note = _registered(pairs, series) if shifts is None else (shifts, "registered")
    maker = Maker(shifts=moved, psf=PSF if isinstance(pairs, xr.DataTree) else 0.0)
    data = read_pairs(maker.on_grid(chosen), allow_mixed_levels=allow_mixed_levels)
    table = table_between(data.facts["source_bandpass"], data.facts["target_bandpass"])
    by: By = "date" if n_dates > 1 else "block"
    methods = {**comparisons(table), AUTO: maker.method()}
    with counted(f"Leaving out {by}s", progress) as tell:
        estimates = estimate_left_out(chosen, methods, by=by, tell=tell)
    scores = score_estimates(estimates).assign(deviation=robust_deviation(estimates))
    uses = _decide(scores, table)
    fit = maker.fit(chosen).assign_coords(pair=data.dates)
    fit = _with_scores(fit, scores, uses, n_dates)
    if moved is not None:
        own = [*(n for n in _SHIFTS if n in moved), "group"]
        fit = fit.assign({n: ("time", moved[n].values) for n in own if n in moved.variables})
        fit = fit.assign_coords(time=moved["time"].values)
    attrs = fit_attrs(AUTO, data.facts, data.dates, min_valid=0.5)
    words = f"{attrs['history']}, {note}; {summary(scores, by)}; uses {uses}"
    own_attrs = {"uses": uses, "psf": maker.psf, "by": by, "history": words}
    return fit.assign_attrs({**attrs, **own_attrs, "pixel_size": pixel_size(data.target)})


def summary(scores: xr.Dataset, by: str) -> str:
    """Mean ERGAS of each model, in words."""
    mean = mean_scores(scores)["ergas"]
    each = ", ".join(f"{name} {float(mean.sel(model=name)):.2f}" for name in mean["model"].values)
    return f"ERGAS on {by}s left out: {each}"


def _require_pairs(pairs: Any) -> None:
    if isinstance(pairs, xr.DataTree):
        target_of(pairs)
        source_groups(pairs)
    elif not isinstance(pairs, xr.Dataset) or not {"source", "target"} <= set(pairs.data_vars):
        raise FitError(
            "needs pairs",
            cure="make them with xh.collect_pairs(source, target)",
            argument="pairs",
            value=type(pairs).__name__,
        )
    _require_bands(pairs)


def _require_bands(pairs: Pairs) -> None:
    """Refuse target bands without a counterpart: nothing could be compared, nor fallen back to."""
    if isinstance(pairs, xr.DataTree):
        sides = list(source_groups(pairs).values())
    else:
        sides = [pairs["source"]]
    name = "source_band" if "source_band" in sides[0].dims else "band"
    known = {str(band) for side in sides for band in side[name].values}
    wanted = [str(band) for band in target_side(pairs)["band"].values]
    missing = [band for band in wanted if band not in known]
    if missing:
        common = [band for band in wanted if band in known]
        raise BandError(
            f"the source has no {' or '.join(missing)}, which the target has",
            cure=f"select target bands that both have: target.sel(band={common})",
        )


def _require_dates(n_dates: int, *, allow_one_pair: bool) -> None:
    if n_dates == 1 and not allow_one_pair:
        raise FitError(
            "there is one clear pair only: what changes from date to date would be taken for the "
            "difference of the sensors",
            cure="give more dates, raise tolerance=, use 'hls-v2', or pass allow_one_pair=True",
        )
    if n_dates < FEW:
        warn(
            f"the model rests on {n_dates} date{'s' * (n_dates > 1)}: its ridge is raised to "
            f"{STRONG_RIDGE:g}; with so few it may be worse than doing nothing",
            RadiometryWarning,
        )


def _days(pairs: Pairs) -> AnyArray:
    root = pairs.to_dataset() if isinstance(pairs, xr.DataTree) else pairs
    days: AnyArray = read_coordinate(root, "time_target").astype("datetime64[D]")
    return days


def _window(pairs: Pairs, size: int) -> Pairs:
    """The middle of the target, and what of the source lies there, in memory."""
    if not size >= 16:
        raise FitError("is too small", cure="give 16 or more", argument="size", value=size)
    target = target_side(pairs)
    part = {dim: _middle(target.sizes[dim], size) for dim in ("y", "x")}
    if isinstance(pairs, xr.Dataset):
        return pairs.isel(part).load()
    box = geobox_of(as_cube(target.isel(part)))
    nodes = {}
    for node in pairs.subtree:
        own = node.to_dataset(inherit=False)
        if node.path == "/target":
            own = own.isel(part)
        elif REFLECTANCE in own:
            own = _near(own, box)
        nodes[node.path] = own.load() if REFLECTANCE in own else own
    return xr.DataTree.from_dict(nodes)


def _middle(n: int, size: int) -> slice:
    start = max(n - size, 0) // 2
    return slice(start, start + min(n, size))


def _near(node: xr.Dataset, box: GeoBox) -> xr.Dataset:
    """Part of a source that lies under a box of the same CRS, with some pixels around."""
    if not is_same_crs(geobox_of(as_cube(node[REFLECTANCE])).crs, box.crs):
        return node
    bounds = box.boundingbox
    margin = 4 * abs(float(box.affine.a))
    x, y = node["x"].values, node["y"].values
    columns = (x > bounds.left - margin) & (x < bounds.right + margin)
    rows = (y > bounds.bottom - margin) & (y < bounds.top + margin)
    if not (columns.any() and rows.any()):
        raise GridError("source and target do not overlap", cure="check their coordinates and CRS")
    return node.isel(y=np.flatnonzero(rows), x=np.flatnonzero(columns))


def _clear_pairs(pairs: Pairs) -> Pairs:
    """Pairs with enough pixels that are valid on both sides."""
    both = gridded(pairs)
    dim = "source_band" if "source_band" in both["source"].dims else "band"
    ok = [both["source"].notnull().all(dim), both["target"].notnull().all("band")]
    n = (ok[0] & ok[1]).sum(["y", "x"]).values
    if not n.size or not (n >= LEAST).any():
        raise FitError(
            f"no pair has {LEAST} pixels that are valid on both sides",
            cure="allow more days with collect_pairs(tolerance=...), or check masks and overlap",
        )
    given: Any = pairs
    chosen: Pairs = pick(given, np.flatnonzero(n >= LEAST))
    return chosen


def _registered(
    pairs: xr.DataTree, series: xr.DataArray | xr.Dataset | None
) -> tuple[xr.Dataset | None, str]:
    """Shifts of the source against the target, and what to say of them."""
    first = next(iter(source_groups(pairs).values()))
    cube = as_cube(first) if series is None else series
    try:
        found = fit_shifts(cube, reference=as_cube(target_of(pairs)), psf=PSF)
    except (FitError, GridError) as error:
        return None, f"not registered ({error.what})"
    return found, "registered"


def comparisons(table: str | None) -> dict[str, Method]:
    """What a fit is compared with: identity, the published table, least squares per band.

    All on the area mean of the source, not registered.
    """
    found: dict[str, Method] = {IDENTITY: lambda _, look: as_estimate(_mean_of(look))}
    if table is not None:
        found[table] = partial(_by_table, table=table)
    found[OLS] = lambda rest, look: as_estimate(
        LinearHarmonizer(fit=fit_linear(gridded(rest, min_valid=COVERED), n_min=LEAST // 2))(
            _mean_of(look)
        )
    )
    return found


def _mean_of(look: Pairs) -> xr.DataArray:
    return source_cube(gridded(look))


def _by_table(_: Any, look: Pairs, *, table: str) -> xr.DataArray:
    cube = _mean_of(look)
    target = str(read_coordinate(gridded(look), "bandpass_target")[0])
    return as_estimate(published(table, target)(settled(cube)))


def _decide(scores: xr.Dataset, table: str | None) -> str:
    """The model to use: this one where it is better than the published table."""
    mean = mean_scores(scores)["ergas"]
    rival = IDENTITY if table is None else table
    own, other = (float(mean.sel(model=name)) for name in (AUTO, rival))
    if own < other:
        return AUTO
    if table is None:
        raise FitError(
            f"the fit is no better than doing nothing (ERGAS {own:.2f} and {other:.2f} on what was "
            "left out), and there is no published table to fall back to",
            cure="give more or clearer pairs",
        )
    return table


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Fit the recipe to some pairs, with shifts that do not come from those left out.

    Attributes
    ----------
    shifts : Dataset, optional
        Of all dates.
    psf : float
        Standard deviation of the Gaussian in averages to the target's grid [m].
    """

    shifts: xr.Dataset | None = None
    psf: float = PSF

    def on_grid(
        self, pairs: Pairs, shifts: xr.Dataset | None = None, min_valid: float = COVERED
    ) -> xr.Dataset:
        """Pairs on the grid of the target, registered."""
        moved = self.shifts if shifts is None else shifts
        return gridded(pairs, shifts=moved, psf=self.psf, min_valid=min_valid)

    def fit(self, pairs: Pairs, shifts: xr.Dataset | None = None) -> xr.Dataset:
        """Fit both members."""
        data = read_pairs(self.on_grid(pairs, shifts), allow_mixed_levels=True)
        n_dates = np.unique(_days(pairs)).size
        recipe = Recipe(
            loss="huber",
            ridge=RIDGE if n_dates >= FEW else STRONG_RIDGE,
            prior="identity",
            weight="pair",
            neighbours=True,
            date_effects=True,
        )
        members = []
        for scale in MEMBERS:
            own = replace(recipe, scale=scale)  # type: ignore[arg-type]
            samples = _thinned(take_samples(data.source, data.target, own))
            members.append(solve(samples, own, n_min=LEAST))
        both = ("matrix", "intercept", "deviation", "date_sd", "rmse", "r2")
        fit = (
            members[0]
            .drop_vars(both)
            .assign({name: xr.concat([m[name] for m in members], "member") for name in both})
        )
        fit["lowest"] = members[1]["lowest"]
        return fit.assign_coords(member=list(MEMBERS)).assign_attrs(
            pixel_size=pixel_size(data.target), ridge=recipe.ridge
        )

    def method(self) -> Method:
        """The recipe as a method that dates can be left out of."""

        def estimate(rest: Pairs, look: Pairs) -> xr.DataArray:
            moved = self.unseen(look)
            maker = replace(self, shifts=moved)
            fit = maker.fit(rest)
            cube = source_cube(maker.on_grid(look, min_valid=0.5))
            data = apply_members(fit, select_bands(cube, list(map(str, fit["source_band"].values))))
            like = cube.isel(band=np.zeros(fit.sizes["band"], int)).copy(data=data)
            return as_estimate(like.assign_coords(band=fit["band"].values))

        return estimate

    def unseen(self, look: Pairs) -> xr.Dataset | None:
        """Shifts that rest on no target of the pairs left out."""
        return None if self.shifts is None else without_reference(self.shifts, _days(look))


def _thinned(samples: Samples) -> Samples:
    """Every so-many-th row and column, for at most `MOST` pixels of a pair."""
    n_y, n_x = samples.predictors.shape[-2:]
    step = max(int(np.ceil(np.sqrt(n_y * n_x / MOST))), 1)
    return replace(
        samples,
        predictors=samples.predictors[..., ::step, ::step],
        target=samples.target[..., ::step, ::step],
    )


def _with_scores(fit: xr.Dataset, scores: xr.Dataset, uses: str, n_dates: int) -> xr.Dataset:
    """Add the scores, and the uncertainty of the model that is used."""
    own = scores.sel(model=uses)
    between = _rank_one(own["bias"].values) if n_dates > 1 else np.full(own.sizes["band"], np.nan)
    within = np.sqrt((own["deviation"] ** 2).mean("pair").values)
    layers = {
        f"score_{name}" if name in fit else str(name): (layer.dims, layer.values)
        for name, layer in scores.data_vars.items()
    }
    return fit.assign(
        {**layers, "between": ("band", between), "within": ("band", within)}
    ).assign_coords(model=scores["model"].values)


def _rank_one(bias: Float64Array) -> Float64Array:
    """The pattern (band,) nearest to the second moment of biases (pair, band)."""
    known = bias[np.isfinite(bias).all(axis=1)].astype(float)
    values, vectors = np.linalg.eigh(known.T @ known / max(len(known), 1))
    pattern = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    return np.asarray(pattern if pattern.sum() >= 0 else -pattern)
