"""Shifts as they would be had some dates of the reference not been seen."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xharmonize.kernels.shifts import Edges, solve_network
from xharmonize.types import AnyArray, IntArray


def without_reference(fit: xr.Dataset, days: AnyArray) -> xr.Dataset | None:
    """Adjust the network of `xharmonize.fit_shifts` again without some dates of the reference.

    No pixel is read: the differences from those dates are dropped, and nothing that is left
    depends on them.

    Parameters
    ----------
    fit : Dataset
        From `xharmonize.fit_shifts`.
    days : datetime64 array
        Days of the reference to leave out.

    Returns
    -------
    Dataset or None
        As `fit_shifts` gives it, without statistics of edges; None if no difference is left.
    """
    if "reference_time" not in fit.dims:
        return fit
    away = np.asarray(days).astype("datetime64[D]")
    kept = ~np.isin(fit["reference_time"].values.astype("datetime64[D]"), away)
    used = fit["is_reference"].values.astype(bool)
    is_lost = used & np.isin(fit["second_time"].values.astype("datetime64[D]"), away)
    edges = fit.isel(edge=np.flatnonzero(~is_lost))
    if not edges.sizes["edge"]:
        return None
    reference = fit["reference_time"].values[kept]
    first, second = _ends(edges, fit["time"].values, reference)
    n_own = fit.sizes["time"]
    group, n_groups = _groups(fit, n_own)
    group = np.concatenate([group, np.full(reference.size, n_groups)])
    group = np.unique(group, return_inverse=True)[1].ravel()
    is_fixed = np.arange(n_own + reference.size) >= n_own
    layers = {}
    for axis in "xy":
        measured = Edges(
            first=first,
            second=second,
            value=edges[f"edge_{axis}"].values.astype(float),
            variance=edges["edge_se"].values.astype(float) ** 2,
            kind=is_fixed[second].astype(np.int64),
        )
        solved = solve_network(measured, group, is_fixed)
        layers[f"shift_{axis}"] = ("time", solved.value[:n_own])
        layers[f"group_{axis}"] = ("time", solved.mean[group[:n_own]])
        if reference.size:
            layers[f"reference_shift_{axis}"] = ("reference_time", solved.value[n_own:])
    coords = {"time": fit["time"].values, "group": ("time", fit["group"].values)}
    if reference.size:
        coords["reference_time"] = reference
    return xr.Dataset(layers, coords=coords)


def _ends(edges: xr.Dataset, own: AnyArray, reference: AnyArray) -> tuple[IntArray, IntArray]:
    """Numbers of the dates of each difference, those of the reference after the cube's."""
    place = {time: i for i, time in reversed(list(enumerate(own.tolist())))}
    beside = {time: len(own) + i for i, time in reversed(list(enumerate(reference.tolist())))}
    ends = zip(edges["second_time"].values.tolist(), edges["is_reference"].values)
    first = [place[time] for time in edges["first_time"].values.tolist()]
    second = [(beside if is_reference else place)[time] for time, is_reference in ends]
    return np.array(first, np.int64), np.array(second, np.int64)


def _groups(fit: xr.Dataset, n_own: int) -> tuple[IntArray, int]:
    names, group = np.unique(fit["group"].values.astype(str), return_inverse=True)
    return group.ravel()[:n_own].astype(np.int64), len(names)
