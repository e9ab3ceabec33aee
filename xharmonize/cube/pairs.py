"""Match observations of the same area by two sensors within a few days.

Pairs have two forms. `match_pairs` gives a Dataset whose two sides lie on one grid;
`collect_pairs` a tree of pairs each on its own grid, which `on_target_grid` brings to the first
form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize._progress import computing
from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.contract import (
    BAND_COORDS,
    REFLECTANCE,
    TIME_COORDS,
    read_coordinate,
    require_reflectance,
    select_bands,
    with_history,
)
from xharmonize.cube.dates import duration_in_days, solar_days, worded_days
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import require_same_grid
from xharmonize.cube.orbits import pair_shifts
from xharmonize.cube.regrid import regrid
from xharmonize.cube.screening import Screening, screen_dates
from xharmonize.cube.shifts import fit_shifts
from xharmonize.errors import (
    BandError,
    ContractError,
    OptionError,
    TimeAxisError,
    require_fraction,
)
from xharmonize.types import AnyArray, BoolArray, Duration, IntArray

Source: TypeAlias = xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray | xr.Dataset]

SAME_PASS = np.timedelta64(1, "h")
"""Steps of one platform closer than this are one observation (rows of a pass, reprocessings)."""


def match_pairs(
    source: xr.DataArray | xr.Dataset,
    target: xr.DataArray | xr.Dataset,
    *,
    tolerance: Duration = "2D",
    bands: Literal["common", "all"] = "common",
) -> xr.Dataset:
    """Pair the dates of two cubes, closest in time first, using each date at most once.

    All pairs within `tolerance` are sorted by time gap, then by target date, source date and item
    id; each is kept unless one of its dates is already paired. Time steps of one platform less
    than an hour apart are one observation: only the first, by time and item id, is used (mosaic
    them first to use all).

    Parameters
    ----------
    source, target : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] on the same grid, NaN where missing. Companions are dropped.
    tolerance : str, number or Timedelta
        Largest time gap, inclusive: ``"2D"``, ``"36h"``, or a number of days. A whole number of
        days is compared with the difference in solar days: ``"2D"`` pairs observations at 10:40
        and 10:55 two days apart.
    bands : {"common", "all"}
        ``common``: bands in both cubes. ``all``: all bands of the target along ``band``, and of
        the source along ``source_band``.

    Returns
    -------
    Dataset
        Lazy ``source`` and ``target`` (pair, band, y, x), with bands in the target's order and
        pairs sorted by target time. Along ``pair``: ``time_source``, ``time_target``, ``gap``
        (source minus target [days]) and both contracts (``platform_source``, …). Dates are matched
        by time only, so a pair may be all NaN.

    Raises
    ------
    GridError
        If the grids differ.
    BandError
        If the cubes have no band in common.
    TimeAxisError
        If no two dates are within `tolerance`.
    OptionError
        If `tolerance` is no length of time.
    """
    source, target = at_door(source), at_door(target)
    if bands not in ("common", "all"):
        raise OptionError(
            "is unknown", cure="choose 'common' or 'all'", argument="bands", value=bands
        )
    one, other = _reflectance(source), _reflectance(target)
    require_same_grid(one, other, what="match_pairs")
    if bands == "common":
        names = _common_bands(one, other)
        one, other = select_bands(one, names), select_bands(other, names)
    longest = duration_in_days(tolerance, argument="tolerance", least=0)
    chosen = _pair_up(one, other, longest)
    pairs = _side_by_side(
        one.isel(time=chosen[:, 0]), other.isel(time=chosen[:, 1]), rename=bands == "all"
    )
    return pairs.assign_attrs(with_history({}, f"match_pairs: tolerance {worded_days(longest)}"))


def _side_by_side(source: xr.DataArray, target: xr.DataArray, *, rename: bool) -> xr.Dataset:
    """Pairs of the dates of two cubes on one grid, in their order."""
    taken, wanted = _taken(source, "source"), _taken(target, "target")
    if rename:
        taken = taken.rename(band="source_band")
    taken = taken.assign_coords(y=wanted["y"], x=wanted["x"])
    pairs = xr.merge([taken, wanted], compat="override", combine_attrs="override")
    return pairs.assign_coords(_numbered(source, target))


def _numbered(source: xr.DataArray, target: xr.DataArray) -> dict[str, Any]:
    """Number and gap of each pair."""
    gap = (source["time"].values - target["time"].values) / np.timedelta64(1, "D")
    meaning = {"long_name": "source time minus target time", "units": "days"}
    return {"gap": ("pair", gap, meaning), "pair": np.arange(len(gap))}


def collect_pairs(
    source: Source,
    target: xr.DataArray | xr.Dataset,
    *,
    tolerance: Duration = "4D",
    min_valid: float = 0.5,
    max_score: float | None = 2.0,
    register: bool | xr.Dataset = False,
    progress: bool | None = None,
) -> xr.DataTree:
    """Pair the dates of two cubes, each on its own grid, cloudy and hazy ones left out.

    Dates are screened first: how much of them is valid, and whether they are hazier than the dates
    around them and than those of the other sensor, where no mask shows it
    (`xharmonize.cube.screening.screen_dates`). This reads a sample of two bands; with
    ``min_valid=0, max_score=None`` no pixel is read. The dates that pass are paired as
    `match_pairs` does, closest in time first and each at most once. Steps of one pass, such as two
    rows of Landsat, are merged: the first valid pixel counts.

    Parameters
    ----------
    source : (time, band, y, x) DataArray, Dataset with ``reflectance``, or mapping of these
        Reflectance [1], NaN where missing. A mapping gives bands of different pixel size as cubes
        of the same dates, such as ``{"10m": ten, "20m": twenty}``.
    target : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] on any grid.
    tolerance : str, Timedelta or float
        Largest time gap, inclusive [days]; see `match_pairs`.
    min_valid : float
        Minimum valid fraction of a date [1].
    max_score : float, optional
        Largest outlier score of a date [uncertainty of surface reflectance, 0.005]; None for no
        limit. Dates with fewer than three others within 30 days, and cubes without blue and red,
        have no score and pass.
    register : bool or Dataset
        Whether to fit the shifts of the source's dates against the target, which reads pixels of
        all dates and computes; or such a fit, from ``fit_shifts(source, reference=target)``. Every
        model that is fitted or trained on the pairs then takes them as registered.
    progress : bool, optional
        Whether to draw a bar of what is read; by default on a terminal.

    Returns
    -------
    DataTree
        Pixels are lazy where the cubes are. ``/source`` and ``/target`` hold ``reflectance``
        (pair, band, y, x) on the grid of the cube, with its contract; a mapping gives
        ``/source/<name>``. The root has, along ``pair``, ``time_source``, ``time_target``, ``gap``
        (source minus target [days]), both contracts (``platform_source``, …), and, where dates were
        screened, ``clear_fraction_source`` [1], ``outlier_score_source`` and those of the target.
        Of registered pairs also ``shift_x``, ``shift_y``: how far east and north of the target the
        source lies [m]; ``/shifts`` is the fit.

    Raises
    ------
    TimeAxisError
        If no two dates that pass are within `tolerance`, or cubes of the source differ in dates.
    """
    _require_limits(min_valid, max_score)
    _require_register(register)
    longest = duration_in_days(tolerance, argument="tolerance", least=0)
    groups, other = _groups(source), merge_passes(_reflectance(at_door(target)))
    first = next(iter(groups.values()))
    found = None
    if min_valid > 0 or max_score is not None:
        with computing("Screening dates", progress):
            found = screen_dates(first, other, min_valid=min_valid, tolerance=longest)
    usable = None if found is None else [one.usable(min_valid, max_score) for one in found]
    chosen = _pair_up(first, other, longest, usable=usable)
    fit = register if isinstance(register, xr.Dataset) else None
    if register is True:
        with computing("Registering", progress):
            fit = fit_shifts(first, reference=other)
    wanted = other.isel(time=chosen[:, 1])
    root = _told(first.isel(time=chosen[:, 0]), wanted, chosen, found or (), fit)
    limits = f"min_valid {min_valid:g}, max_score {max_score}"
    done = "" if fit is None else ", registered"
    attrs = with_history({}, f"collect_pairs: tolerance {worded_days(longest)}, {limits}{done}")
    nodes = {
        "/source" if name == WHOLE else f"/source/{name}": _node(cube.isel(time=chosen[:, 0]))
        for name, cube in groups.items()
    }
    top = xr.Dataset(coords=root, attrs=attrs)
    pairs = xr.DataTree.from_dict({"/": top, **nodes, "/target": _node(wanted)})
    return pairs if fit is None else with_shifts(pairs, fit)


def _told(
    source: xr.DataArray,
    target: xr.DataArray,
    chosen: IntArray,
    found: Sequence[Screening],
    fit: xr.Dataset | None,
) -> dict[str, Any]:
    """Coordinates along `pair`: contracts, gap, and what screening and registration found."""
    root = _contract(source, "source") | _contract(target, "target")
    root |= _numbered(source, target)
    for side, one, steps in zip(("source", "target"), found, chosen.T):
        root[f"clear_fraction_{side}"] = ("pair", one.clear_fraction[steps], {"units": "1"})
        root[f"outlier_score_{side}"] = ("pair", one.outlier_score[steps], {"units": "1"})
    if fit is not None:
        moved = pair_shifts(source, target, fit)
        for name in ("shift_x", "shift_y"):
            root[name] = ("pair", moved[name].values, {"units": "m"})
    return root


def _require_register(register: Any) -> None:
    if not isinstance(register, (bool, xr.Dataset)):
        raise OptionError(
            "is no fit",
            cure="give True, or a result of xh.fit_shifts(source, reference=target)",
            argument="register",
            value=register,
        )


WHOLE = "source"
"""Name of the only group of a source that is not given as a mapping."""


def source_groups(pairs: xr.DataTree) -> dict[str, xr.DataArray]:
    """Source reflectance (pair, band, y, x) [1] by group; one named ``"source"`` if it has none."""
    node = _node_of(pairs, "source")
    if REFLECTANCE in node.data_vars:
        return {WHOLE: node.to_dataset()[REFLECTANCE]}
    return {str(name): one.to_dataset()[REFLECTANCE] for name, one in node.children.items()}


def target_of(pairs: xr.DataTree) -> xr.DataArray:
    """Target reflectance (pair, band, y, x) [1]."""
    return _node_of(pairs, "target").to_dataset()[REFLECTANCE]


SHIFTS = "shifts"
"""Node of a tree with the shifts of its dates, as `xharmonize.fit_shifts` gives them."""


def shifts_in(pairs: xr.DataTree) -> xr.Dataset | None:
    """Shifts that collected pairs are registered by; None if they are not."""
    found = pairs.children.get(SHIFTS)
    return None if found is None else found.to_dataset(inherit=False)


def with_shifts(pairs: xr.DataTree, fit: xr.Dataset | None) -> xr.DataTree:
    """Return pairs registered by a fit of `xharmonize.fit_shifts`; by none with None."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in pairs.subtree}
    nodes.pop(f"/{SHIFTS}", None)
    added = {} if fit is None else {f"/{SHIFTS}": fit}
    return xr.DataTree.from_dict({**nodes, **added})


SOURCES = "sources"
"""Node of a tree with further cubes by role, which a network is given beside the source."""


def beside_source(pairs: xr.DataTree) -> dict[str, xr.DataArray]:
    """Further cubes (pair, band, y, x) by role; mostly none."""
    found = pairs.children.get(SOURCES)
    nodes = {} if found is None else found.children
    return {str(role): node.to_dataset()[REFLECTANCE] for role, node in nodes.items()}


def collected(
    source: xr.DataArray | None, target: xr.DataArray, attrs: Mapping[str, Any]
) -> xr.DataTree:
    """Pairs of the dates of two cubes in their order, each on its own grid.

    Without a source the target's contract stands for that of both sides, and there is no pixel of
    the source.
    """
    own = target if source is None else source
    root = _contract(own, "source") | _contract(target, "target") | _numbered(own, target)
    pairs = xr.DataTree.from_dict(
        {"/": xr.Dataset(coords=root, attrs=dict(attrs)), "/target": _node(target)}
    )
    return pairs if source is None else with_node(pairs, "/source", source)


def with_node(pairs: xr.DataTree, path: str, cube: xr.DataArray) -> xr.DataTree:
    """Return pairs with a further cube of the same dates."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in pairs.subtree}
    return xr.DataTree.from_dict({**nodes, path: _node(cube)})


def as_cube(side: xr.DataArray) -> xr.DataArray:
    """Return one side of collected pairs as a cube (time, band, y, x) with its contract."""
    return side.swap_dims(pair="time").drop_vars("pair", errors="ignore")


def cube_of(pairs: xr.Dataset, side: Literal["source", "target"]) -> xr.DataArray:
    """Return one side of pairs on one grid as a cube (time, band, y, x) with its contract."""
    array = pairs[side]
    if "source_band" in array.dims:
        array = array.drop_vars("band", errors="ignore").rename(source_band="band")
    known: dict[str, Any] = {
        name: ("pair", read_coordinate(pairs, f"{name}_{side}")) for name in ("time", *TIME_COORDS)
    }
    bare = array.drop_vars([n for n in array.coords if n not in ("band", "y", "x", "spatial_ref")])
    cube = bare.assign_coords(known).swap_dims(pair="time").transpose("time", "band", "y", "x")
    shape = cube.shape[:2]
    values = {"scale": 1.0, "offset": 0.0, "nodata": np.nan, "is_decoded": True}
    plain = {n: (("time", "band"), np.full(shape, values[n])) for n in BAND_COORDS}
    return cube.assign_coords(plain).rename(REFLECTANCE)


def as_tree(pairs: xr.Dataset) -> xr.DataTree:
    """Return pairs on one grid, from `match_pairs`, in the form of `collect_pairs`."""
    root = {n: c.variable for n, c in pairs.coords.items() if c.dims == ("pair",)}
    nodes = {f"/{side}": _node(cube_of(pairs, side)) for side in ("source", "target")}
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=root, attrs=pairs.attrs), **nodes})


def moved_target(pairs: xr.DataTree) -> xr.DataArray:
    """Target (pair, band, y, x) [1], moved to where its source lies if the pairs are registered.

    By linear interpolation on its own grid: inputs of networks must show the source's pixels as
    they were observed.
    """
    target, fit = target_of(pairs), shifts_in(pairs)
    if fit is None:
        return target
    cube = as_cube(target)
    source = as_cube(next(iter(source_groups(pairs).values())))
    apart = pair_shifts(source, cube, fit).assign_coords(time=cube["time"].values)
    moved = regrid(cube, like=cube, shifts=-apart)
    return target.copy(data=moved.transpose("time", *target.dims[1:]).data)


def on_target_grid(
    pairs: xr.DataTree,
    *,
    shifts: xr.Dataset | None = None,
    psf: float = 0.0,
    min_valid: float = 0.5,
) -> xr.Dataset:
    """Bring collected pairs to the grid of the target, lazily.

    Parameters
    ----------
    pairs : DataTree
        From `collect_pairs`.
    shifts : Dataset, optional
        From `xharmonize.fit_shifts` of the source; by default those that the pairs were registered
        by, if they were. If it was fitted with ``reference=`` the target, the source is moved to
        the target of its pair: to where that lies if the fit has seen it, to the mean of all
        targets if it was excluded.
    psf, min_valid
        See `xharmonize.regrid`.

    Returns
    -------
    Dataset
        In the form of ``match_pairs(bands="all")``: ``source`` (pair, source_band, y, x) and
        ``target`` (pair, band, y, x).
    """
    wanted = as_cube(target_of(pairs))
    shifts = shifts_in(pairs) if shifts is None else shifts
    moved = []
    for side in source_groups(pairs).values():
        cube = as_cube(side)
        own = None if shifts is None else pair_shifts(cube, wanted, shifts)
        moved.append(regrid(cube, like=wanted, psf=psf, min_valid=min_valid, shifts=own))
    source = moved[0]
    if len(moved) > 1:
        rest = [cube.drop_vars(set(BAND_COORDS), errors="ignore") for cube in moved]
        source = xr.concat(rest, "band", coords="minimal", compat="override", join="override")
    return _side_by_side(source, wanted, rename=True).assign_attrs(pairs.attrs)


def _require_limits(min_valid: float, max_score: float | None) -> None:
    require_fraction(min_valid, argument="min_valid", error=OptionError)
    if max_score is not None and not max_score > 0:
        raise OptionError(
            cure="give a number above 0, or None", argument="max_score", value=max_score
        )


def _groups(source: Source) -> dict[str, xr.DataArray]:
    """Cubes of the source by name, passes merged; all have the same dates."""
    is_one = isinstance(source, (xr.DataArray, xr.Dataset))  # a Dataset is a mapping too
    given: Mapping[Any, Any] = {WHOLE: source} if is_one else dict(source)
    if not given:
        raise ContractError("has no cubes", argument="source", value=source)
    groups = {str(name): merge_passes(_reflectance(at_door(cube))) for name, cube in given.items()}
    first, *rest = groups.items()
    for name, cube in rest:
        if not np.array_equal(cube["time"].values, first[1]["time"].values):
            raise TimeAxisError(
                f"the cubes {first[0]!r} and {name!r} of the source differ in dates",
                cure="open them from the same items",
            )
    return groups


def _node_of(pairs: xr.DataTree, name: str) -> xr.DataTree:
    if not isinstance(pairs, xr.DataTree) or name not in pairs.children:
        raise ContractError(
            f"these are no collected pairs: there is no node {name!r}",
            cure="make them with xh.collect_pairs(source, target)",
        )
    return pairs.children[name]


def _node(cube: xr.DataArray) -> xr.Dataset:
    """The chosen dates of one cube along `pair`, with the contract under its own names."""
    keep = {"time", "band", "y", "x", "spatial_ref", *TIME_COORDS, *BAND_COORDS}
    bare = cube.drop_vars([n for n in cube.coords if n not in keep])
    known: dict[str, Any] = {n: ("time", read_coordinate(bare, n)) for n in TIME_COORDS}
    known |= {n: (("time", "band"), read_coordinate(bare, n)) for n in BAND_COORDS}
    known["pair"] = ("time", np.arange(cube.sizes["time"]))
    along = bare.assign_coords(known).swap_dims(time="pair")
    return along.to_dataset(name=REFLECTANCE)


def _reflectance(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    if isinstance(cube, xr.Dataset):
        if REFLECTANCE not in cube:
            raise ContractError(
                "the Dataset has no variable 'reflectance'",
                cure=f"it has {sorted(map(str, cube.data_vars))}",
            )
        cube = cube[REFLECTANCE]
    require_reflectance(cube)
    return cube


def _common_bands(source: xr.DataArray, target: xr.DataArray) -> list[str]:
    """Bands of both cubes, in the target's order."""
    names = [str(band) for band in target["band"].values if band in source["band"].values]
    if not names:
        raise BandError(
            f"no band is in both cubes: {source['band'].values.tolist()} and "
            f"{target['band'].values.tolist()}"
        )
    return names


def _pair_up(
    source: xr.DataArray,
    target: xr.DataArray,
    tolerance: float,
    *,
    usable: Sequence[BoolArray] | None = None,
) -> IntArray:
    """Step numbers (source, target) of the pairs, in order of target time."""
    observations, wanted = _observations(source), _observations(target)
    if usable is not None:
        observations, wanted = (
            [i for i in n if ok[i]] for n, ok in zip((observations, wanted), usable)
        )
        if not observations or not wanted:
            side = "target" if observations else "source"
            raise TimeAxisError(
                f"no date of the {side} is clear enough", cure="lower min_valid=, raise max_score="
            )
    when, target_when = source["time"].values, target["time"].values
    ids, target_ids = read_coordinate(source, "item_id"), read_coordinate(target, "item_id")
    gaps, is_near = gaps_between(source, target, tolerance)
    gaps = np.abs(gaps)
    candidates = sorted(
        (gaps[i, j], target_when[j], when[i], target_ids[j], ids[i], i, j)
        for i in observations
        for j in wanted
        if is_near[i, j]
    )
    if not candidates:
        near = gaps[np.ix_(observations, wanted)]
        nearest = f", the nearest are {_days(near.min())} apart" if near.size else ""
        raise TimeAxisError(
            f"no two dates lie within {worded_days(tolerance)}{nearest}", cure="raise tolerance="
        )
    free, free_target = set(observations), set(wanted)
    pairs: list[tuple[int, int]] = []
    for *_, i, j in candidates:
        if i in free and j in free_target:
            pairs.append((i, j))
            free.remove(i)
            free_target.remove(j)
    pairs.sort(key=lambda pair: (target_when[pair[1]], target_ids[pair[1]]))
    return np.array(pairs, np.int64)


def gaps_between(
    source: xr.DataArray, target: xr.DataArray, tolerance: float
) -> tuple[AnyArray, BoolArray]:
    """Time from each date of the target to each of the source, and whether it is tolerated.

    Parameters
    ----------
    tolerance : float
        Largest gap, inclusive [day]; a whole number is compared with the difference in solar days.

    Returns
    -------
    gaps : (source, target) timedelta64 array
        Source minus target.
    is_near : (source, target) bool array
        Whether the gap is within the tolerance.
    """
    gaps = source["time"].values[:, None] - target["time"].values[None, :]
    if not tolerance.is_integer():
        return gaps, np.abs(gaps) / np.timedelta64(1, "D") <= tolerance
    days = np.abs(solar_days(source)[:, None] - solar_days(target)[None, :])
    return gaps, days <= tolerance


def _observations(cube: xr.DataArray) -> list[int]:
    """Time steps to use: the first of each pass."""
    return [steps[0] for steps in passes_of(cube)]


def passes_of(cube: xr.DataArray) -> list[list[int]]:
    """Time steps of each pass, in order of time and item id."""
    names = {name: read_coordinate(cube, name) for name in ("sensor", "platform", "item_id")}
    when = cube["time"].values
    order = sorted(range(when.size), key=lambda i: (when[i], str(names["item_id"][i])))
    last: dict[tuple[str, str], list[int]] = {}
    passes = []
    for i in order:
        key = (str(names["sensor"][i]), str(names["platform"][i]))
        if key in last and when[i] - when[last[key][0]] < SAME_PASS:
            last[key].append(i)
        else:
            last[key] = [i]
            passes.append(last[key])
    return passes


def merge_passes(cube: xr.DataArray) -> xr.DataArray:
    """One date a pass: the first step, its missing pixels filled from the further ones; lazy."""
    passes = passes_of(cube)
    first = cube.isel(time=[steps[0] for steps in passes])
    for k in range(1, max(map(len, passes), default=1)):
        more = cube.isel(time=[steps[min(k, len(steps) - 1)] for steps in passes])
        values = first.data
        module = da if is_lazy(values) else np
        first = first.copy(data=module.where(np.isfinite(values), values, more.data))
    return first


def _taken(part: xr.DataArray, name: str) -> xr.Dataset:
    """Dates of one cube as a variable along `pair`, its contract renamed."""
    keep = {"time", "band", "y", "x", "spatial_ref"}
    bare = part.drop_vars([n for n in part.coords if n not in keep]).drop_vars("time")
    along = {n: ("time", values) for n, (_, values) in _contract(part, name).items()}
    return bare.assign_coords(along).rename(time="pair").to_dataset(name=name)


def _contract(part: xr.DataArray, name: str) -> dict[str, Any]:
    """Times and contract of dates as coordinates along `pair`, renamed."""
    return {f"{n}_{name}": ("pair", read_coordinate(part, n)) for n in ("time", *TIME_COORDS)}


def _days(gap: np.timedelta64) -> str:
    return f"{gap / np.timedelta64(1, 'D'):.1f} days"
