"""Leave one date out on real pairs: every model in closed form, `auto`, tables and a network.

Run ``python benchmarks/closed_forms_flanders.py [--curve] [--bundle BUNDLE] [catalog.json]``.
Prints ERGAS (ratio 1), SAM [degree] and NDVI RMSE [1] against Landsat on its own grid, the mean
over six dates of equal weight; the same with the mean difference of each date and band removed,
which nobody can know beforehand; RMSE per band; by gap; and the difference to `auto` in ERGAS with
its 90 % interval from a paired bootstrap of blocks of 5 x 5 pixels. ``--curve``: with 1 to 5
training dates. ``--bundle``: also a generator, such as ``examples/make_small_bundle.py`` writes; it
has seen none of the dates. The target of a scored date is read by the score only. Pairs are those
that `collect_pairs` leaves after screening: models are fitted on those at most two days apart,
`auto` on those at most four. Needs the real observations (``XHARMONIZE_DATA``, or
``../shared/data``).
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.cube.pairs import as_cube, cube_of, source_groups, target_of
from xharmonize.harmonizers import auto, validation

BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
ALL_BANDS = [*BANDS[:3], "rededge1", "rededge2", "rededge3", "nir", *BANDS[3:]]
TILE = 320.0
"""Side of the tiles of histograms [m]: the site has 640 m."""
NEAR = 2.5
"""Largest gap of the pairs that are scored [day]."""
BLOCK, DRAWS = 5, 1000


WHOLE = "2018-01-01/2018-11-30"


def load(catalog: str | Path, when: str = WHOLE) -> tuple[xr.DataArray, xr.DataArray]:
    """Sentinel-2 and Landsat of 2018, clouds masked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        options: dict[str, Any] = {"datetime": when}
        sentinel = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            bands=ALL_BANDS,
            resolution=10,
            platform="infer",
            **options,
        )
        landsat = xh.open_stac(catalog, collection="landsat-8-c1-sr", bands=BANDS, **options)
    return sentinel.load(), landsat.load()


def clear_pairs(sentinel: xr.DataArray, landsat: xr.DataArray) -> xr.DataTree:
    """Pairs at most four days apart, half of their pixels valid."""
    pairs = xh.collect_pairs(sentinel, landsat, tolerance="4D")
    both = validation.gridded(pairs)
    ok = np.isfinite(both["source"]).all("source_band") & np.isfinite(both["target"]).all("band")
    return validation.pick(pairs, np.flatnonzero(ok.mean(["y", "x"]) > 0.5))


def whole(pairs: xr.DataTree) -> xr.Dataset:
    """Area means of pixels that are covered completely, not registered."""
    return validation.gridded(pairs, min_valid=1.0)


def near(pairs: xr.DataTree) -> xr.DataTree:
    """Pairs at most two days apart."""
    return validation.pick(pairs, np.flatnonzero(np.abs(pairs["gap"].values) <= NEAR))


def fitted(fit: Callable[[xr.Dataset], Any], rest: xr.DataTree, look: xr.DataTree) -> xr.DataArray:
    """The estimate of a model fitted on pairs of one grid."""
    cube = validation.source_cube(whole(look))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        return validation.as_estimate(xh.to_landsat(cube, fit(whole(near(rest)))))


def common(pairs: xr.Dataset) -> xr.Dataset:
    """Pairs of the bands that both sides have."""
    return pairs.sel(source_band=BANDS)


def histogram(pairs: xr.Dataset) -> xr.Dataset:
    """Match the distributions of source and target, of all dates."""
    return xh.harmonizers.fit_histogram(
        cube_of(pairs, "target"), source=validation.source_cube(common(pairs))
    )


def by_date(pairs: xr.Dataset) -> xr.Dataset:
    """Give a date the distribution of all targets."""
    return xh.harmonizers.fit_histogram(cube_of(pairs, "target"), per="date")


def by_tile(rest: xr.DataTree, look: xr.DataTree) -> xr.DataArray:
    """Give each tile of a date the distribution of all targets."""
    cube = validation.source_cube(common(whole(look)))
    model = xh.harmonizers.fit_histogram(cube_of(whole(near(rest)), "target"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)  # tiles reach beyond the site
        tables = xh.harmonizers.fit_tables(cube, model, tile=TILE, interpolate=True)
    return validation.as_estimate(xh.to_landsat(cube, model, tables=tables))


def network(model: Any, _: Any, look: xr.DataTree) -> xr.DataArray:
    """The estimate of a bundle, which takes the source as it was opened."""
    (source,) = source_groups(look).values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        result = xh.to_landsat(as_cube(source), model, like=as_cube(target_of(look)))
    return validation.as_estimate(result)


def per_pixel(pairs: xr.Dataset, **options: Any) -> xr.Dataset:
    """A line for each pixel, from pairs at most three days apart."""
    return xh.fit_pixelwise(common(pairs), days=(0, 1, 3), **options)


def methods(shifts: xr.Dataset | None) -> dict[str, validation.Method]:
    """All models, by the name of their row."""

    def line(**options: Any) -> validation.Method:
        return partial(fitted, lambda pairs: xh.fit_linear(pairs, **options))

    def six(**options: Any) -> validation.Method:
        return partial(fitted, lambda pairs: xh.fit_linear(common(pairs), **options))

    def registered(_: Any, look: xr.DataTree) -> xr.DataArray:
        moved = auto.Maker(shifts=shifts).unseen(look)
        return validation.as_estimate(
            validation.source_cube(validation.gridded(look, shifts=moved, psf=auto.PSF))
        )

    recipe = auto.Maker(shifts=shifts).method()
    unregistered = auto.Maker(shifts=None).method()
    robust = {"method": "multiband", "loss": "huber", "weight": "pair", "ridge": 0.01}
    return {
        "identity": lambda _, look: validation.as_estimate(validation.source_cube(whole(look))),
        "identity, registered": registered,
        "HLS v2": partial(fitted, lambda _: "hls-v2"),
        "line per band (ols)": line(),
        "line per band, Huber": line(loss="huber"),
        "line per band (deming)": line(method="deming"),
        "six bands (multi-ols)": six(method="multiband"),
        "ten bands": line(method="multiband"),
        "ten bands, dates weigh the same": line(method="multiband", weight="pair"),
        "ten bands, ridge and Huber": line(prior="identity", **robust),
        "the same, 3 x 3": line(prior="identity", neighbours=True, **robust),
        "line per pixel": partial(fitted, per_pixel),
        "line per pixel, else per band": partial(fitted, partial(per_pixel, fallback="line")),
        "line per pixel, 3 x 3 where few": partial(
            fitted, partial(per_pixel, neighbours=True, fallback="line")
        ),
        "table per band (fit_lut)": partial(fitted, lambda pairs: xh.fit_lut(common(pairs))),
        "histogram matching": partial(fitted, histogram),
        "histogram matching, per date": partial(fitted, by_date),
        "tables per tile, matched": by_tile,
        "auto, not registered": unregistered,
        "auto, two days": lambda rest, look: recipe(near(rest), look),
        "auto": recipe,
    }


def floor(gridded: xr.Dataset, **options: Any) -> xr.DataArray:
    """Least squares fitted on one half of the same date, for the other half, in both directions."""
    n_x = gridded.sizes["x"]
    left = xr.DataArray(np.arange(n_x) < n_x / 2, dims="x")
    parts = []
    for k in range(gridded.sizes["pair"]):
        one = gridded.isel(pair=[k])
        cube = validation.source_cube(one)
        fits = [
            xh.fit_linear(one.where(side), method="multiband", n_min=50, **options)
            for side in (left, ~left)
        ]
        other, own = (xh.to_landsat(cube, fit) for fit in fits)
        parts.append(validation.as_estimate(other.where(~left).fillna(own.where(left))))
    return xr.concat(parts, "pair", coords="minimal", compat="override").sel(band=BANDS)


def floors(pairs: xr.DataTree, shifts: xr.Dataset) -> dict[str, xr.DataArray]:
    """What is left within a date: models that have seen half of it."""
    moved = validation.gridded(pairs, shifts=shifts, psf=auto.PSF, min_valid=auto.COVERED)
    robust = {"ridge": 0.01, "prior": "identity", "loss": "huber"}
    return {
        "floor: other half, six bands": floor(common(whole(pairs))),
        "floor: the same, registered": floor(common(moved)),
        "floor: registered, ten bands, robust": floor(moved, **robust),
    }


def evaluate(
    catalog: str | Path,
    *,
    bundle: str | Path | None = None,
    names: Sequence[str] | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Estimates and scores (model, pair, …) of the pairs at most two days apart.

    With `names`, of some models only, without the floors.
    """
    sentinel, landsat = load(catalog)
    pairs = clear_pairs(sentinel, landsat)
    is_moved = names is None or any("auto" in name or "registered" in name for name in names)
    shifts = xh.fit_shifts(sentinel, reference=landsat, psf=auto.PSF) if is_moved else None
    every = methods(shifts)
    if bundle is not None:
        every["network"] = partial(network, xh.load_model(bundle))
    chosen = every if names is None else {name: every[name] for name in names}
    found = validation.estimate_left_out(pairs, chosen)
    found = found.isel(pair=np.abs(found["gap"].values) <= NEAR)
    lowest = {} if names is not None or shifts is None else floors(near(pairs), shifts)
    found = _with(found, lowest) if lowest else found
    return found, validation.score_estimates(found)


def _with(found: xr.Dataset, lowest: dict[str, xr.DataArray]) -> xr.Dataset:
    """Add estimates; all are scored where all are valid."""
    dims = ("model", "pair", "band", "y", "x")
    below = np.stack([part.transpose(*dims[1:]).values for part in lowest.values()])
    estimates = np.concatenate([found["estimate"].values, below])
    ok = np.isfinite(found["target"].values) & np.isfinite(estimates).all(axis=(0, 2))[:, None]
    names = [*found["model"].values, *lowest]
    found = found.drop_vars(["estimate", "model"]).assign(
        estimate=(dims, np.where(ok, estimates, np.nan)), target=found["target"].where(ok)
    )
    return found.assign_coords(model=names)


def bootstrap(found: xr.Dataset, *, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """ERGAS of each model minus that of `auto`, with its 90 % interval over blocks of a date."""
    random = np.random.default_rng(seed)
    error = (found["estimate"] - found["target"]).values.astype(float) ** 2
    truth = found["target"].values.astype(float)
    n_y, n_x = truth.shape[-2:]
    block = (np.arange(n_y) // BLOCK)[:, None] * 100 + (np.arange(n_x) // BLOCK)[None, :]
    codes = np.unique(block, return_inverse=True)[1].reshape(block.shape)
    member = np.eye(codes.max() + 1)[codes]
    squares = np.einsum("mpbyx,yxk->mpbk", np.nan_to_num(error), member)
    level = np.einsum("pbyx,yxk->pbk", np.nan_to_num(truth), member)
    count = np.einsum("pbyx,yxk->pbk", np.isfinite(truth).astype(float), member)

    def ergas(weight: np.ndarray) -> np.ndarray:
        n = np.einsum("pbk,pk->pb", count, weight)
        mean = np.einsum("pbk,pk->pb", level, weight) / n
        mse = np.einsum("mpbk,pk->mpb", squares, weight) / n
        return 100 * np.sqrt((mse / mean**2).mean(axis=-1)).mean(axis=-1)

    n_pairs, n_blocks = truth.shape[0], member.shape[-1]
    chosen = random.integers(0, n_blocks, (DRAWS, n_pairs, n_blocks))
    draws = np.array([ergas(np.eye(n_blocks)[draw].sum(axis=1)) for draw in chosen])
    names = [str(name) for name in found["model"].values]
    own = names.index("auto")
    exact = ergas(np.ones((n_pairs, n_blocks)))
    result = {}
    for m, name in enumerate(names):
        low, high = np.quantile(draws[:, m] - draws[:, own], [0.05, 0.95])
        result[name] = (float(exact[m] - exact[own]), float(low), float(high))
    return result


def subsets(n: int, size: int, most: int = 2) -> Iterator[tuple[int, ...]]:
    """Some of the subsets of `size` of `n` things, spread over all."""
    every = list(itertools.combinations(range(n), size))
    for k in np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)):
        yield every[k]


Rows = dict[str, list[float]]


def curve(catalog: str | Path) -> Iterator[tuple[int, Rows]]:
    """ERGAS of `auto` and of ten bands, by the number of training dates, over subsets of dates."""
    sentinel, landsat = load(catalog)
    pairs = near(clear_pairs(sentinel, landsat))
    every = methods(xh.fit_shifts(sentinel, reference=landsat, psf=auto.PSF))
    yield from _curve(pairs, {name: every[name] for name in ("identity", "ten bands", "auto")})


def _curve(pairs: xr.DataTree, chosen: dict[str, validation.Method]) -> Iterator[tuple[int, Rows]]:
    for size in range(1, pairs["gap"].size):
        rows: Rows = {name: [] for name in chosen}
        for fold in validation.leave_out(pairs):
            truth = validation.target_side(validation.pick(pairs, fold.left_out)).values
            for subset in subsets(fold.rest["gap"].size, size):
                rest = validation.pick(fold.rest, np.array(subset))
                parts = [m(rest, fold.look).sel(band=BANDS).values for m in chosen.values()]
                ok = np.isfinite([*parts, truth]).all(axis=(0, 2))[:, None]
                level = np.nanmean(np.where(ok, truth, np.nan), axis=(0, 2, 3))
                for name, part in zip(chosen, parts):
                    mse = np.nanmean(np.where(ok, part - truth, np.nan) ** 2, axis=(0, 2, 3))
                    rows[name].append(float(100 * np.sqrt((mse / level**2).mean())))
        yield size, rows


def _print_table(scores: xr.Dataset, differences: dict[str, tuple[float, float, float]]) -> None:
    dates = [str(t)[5:10] for t in scores["time_target"].values]
    print(
        f"{'':40}{'ERGAS   SAM  NDVI':>22}{'means removed':>22}" + "".join(f"{d:>7}" for d in dates)
    )
    for name in scores["model"].values:
        own = scores.sel(model=name)
        mean = own.mean("pair")
        cells = [
            f"{float(mean[f'ergas{s}']):9.2f}{float(mean[f'sam{s}']):6.2f}"
            f"{float(mean[f'ndvi_rmse{s}']):7.3f}"
            for s in ("", "_centred")
        ]
        each = "".join(f"{value:7.1f}" for value in own["ergas"].values)
        gap, low, high = differences[str(name)]
        print(f"{name:40}{''.join(cells)}{each}   {gap:+.2f} [{low:+.2f}, {high:+.2f}]")
    print(f"\n{'RMSE':40}" + "".join(f"{band:>8}" for band in scores["band"].values))
    for name in scores["model"].values:
        row = scores["rmse"].sel(model=name).mean("pair").values
        print(f"{name:40}" + "".join(f"{value:8.4f}" for value in row))
    days = np.rint(np.abs(scores["gap"].values)).astype(int)
    print(f"\n{'ERGAS by days between':40}" + "".join(f"{day:>8}" for day in np.unique(days)))
    for name in scores["model"].values:
        own = scores["ergas"].sel(model=name).values
        row = [own[days == day].mean() for day in np.unique(days)]
        print(f"{name:40}" + "".join(f"{value:8.2f}" for value in row))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or the curve."""
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalog", nargs="?", default=f"{folder}/flanders-2018/catalog.json")
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--bundle")
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
    if not given.curve:
        found, scores = evaluate(given.catalog, bundle=given.bundle)
        _print_table(scores, bootstrap(found))
        return
    for size, rows in curve(given.catalog):
        worse = sum(a > b for a, b in zip(rows["auto"], rows["identity"]))
        cells = ", ".join(f"{name} {np.mean(row):.2f}" for name, row in rows.items())
        print(f"{size} dates: {cells}; auto worse than identity in {worse} of {len(rows['auto'])}")


if __name__ == "__main__":
    main()
