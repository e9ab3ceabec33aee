"""The report: one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._replace import Mode, require_mode, require_new, written_aside
from xharmonize.cube.contract import main_layer
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, RadiometryError, StoreError
from xharmonize.metrics.pairing import compare
from xharmonize.report import facts, pictures, scoring
from xharmonize.report.html import Html, join, page, table, tag
from xharmonize.series.observed import has_look

PREDICTION = "prediction"


def write_report(
    cube: xr.DataArray | xr.Dataset,
    path: str | Path,
    *,
    ref: xr.DataArray | xr.Dataset | None = None,
    source: xr.DataArray | xr.Dataset | None = None,
    tolerance: str = "2D",
    title: str = "",
    notes: Sequence[str] = (),
    mode: Mode = "w-",
) -> Path:
    """Write a page of HTML on a series, or on a prediction against a reference; computes.

    The page says what the cube is and how it came about, warns of what its pixels, flags and
    sensors give reason to, and shows pictures; with a reference, scores too, and beside them those
    of the source unchanged and of HLS v2 where a source is given, all on the same pixels. It holds
    its pictures, loads nothing from elsewhere and runs no script.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or one index (time, y, x), with its contract; NaN where
        missing.
    path : str or Path
        File to write.
    ref : DataArray or Dataset, optional
        The reference, on the same grid.
    source : DataArray or Dataset, optional
        What the prediction was made from, on its own grid; only with `ref`.
    tolerance : str
        Largest gap between dates that are compared, as for `xharmonize.match_pairs`.
    title : str
        Heading of the page.
    notes : sequence of str
        Warnings to add.
    mode : {"w-", "w"}
        ``"w-"`` refuses a file that is there, ``"w"`` replaces it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ContractError
        If a Dataset holds neither reflectance nor one index, or `source` is given without `ref`.
    StoreError
        If `path` exists (``"w-"``), is a folder, or its folder does not exist.
    RadiometryError
        If the cube holds digital numbers.
    TimeAxisError, GridError, BandError
        If cube and reference cannot be compared.

    Examples
    --------
    >>> xh.write_report(series, "series.html")  # doctest: +SKIP
    """
    cube, ref, source = at_door(cube), at_door(ref), at_door(source)
    if source is not None and ref is None:
        raise ContractError("source= is compared with a reference; give ref= too")
    if not np.issubdtype(main_layer(cube).dtype, np.floating):
        raise RadiometryError(
            f"the cube holds digital numbers ({main_layer(cube).dtype}); a report is on "
            "reflectance or an index: call cube.harmonize.decode() first"
        )
    require_mode(mode)
    place = Path(path).expanduser().resolve()
    if place.is_dir() or not place.parent.is_dir():
        raise StoreError(f"{path} cannot be written; give a file in a folder that exists")
    require_new(place, mode)
    named = title or ("Harmonised series" if ref is None else "Prediction against reference")
    sections, warnings = _sections(cube, ref, source, tolerance)
    warnings = [*notes, *warnings]
    sections = {"Warnings": _warnings(warnings)} | sections
    now = datetime.now(UTC)
    text = page(
        named,
        lead=_lead(cube, warnings),
        sections=sections,
        foot=f"Made by xharmonize on {now:%Y-%m-%d %H:%M} UTC.",
    )
    with written_aside(place, mode) as new:
        new.write_text(text, encoding="utf-8")
    return place


def _sections(
    cube: Any, ref: Any | None, source: Any | None, tolerance: str
) -> tuple[dict[str, Html], list[str]]:
    """Parts of the page by heading, and warnings."""
    sections: dict[str, Html] = {}
    warnings: list[str] = []
    if ref is not None:
        compared, found = _comparison(cube, ref, source, tolerance)
        sections |= compared
        warnings += found
    shares = facts.share_rows(cube)
    checks, found = facts.radiometry_rows(cube)
    warnings += [*found, *facts.warnings_of(cube, shares)]
    steps, found = facts.step_rows(cube)
    warnings += found
    drawn: list[Html] = []
    if "time" in main_layer(cube).dims:
        drawn, found = pictures.draw_each(pictures.of_series(cube))
        warnings += found
    own = "Prediction" if ref is not None else "Series"
    sections[own] = join(drawn)
    sections["What was used"] = _used(cube, ref, source)
    sections["Checks"] = join(
        [
            table(checks, caption="Pixels against metadata", n_heads=2),
            table(shares, caption="Origin and flags of valid values", n_heads=2),
            table(steps, caption="Step between sensors (sensor minus the other), [1]", n_heads=2),
        ]
    )
    return sections, warnings


def _comparison(
    cube: Any, ref: Any, source: Any | None, tolerance: str
) -> tuple[dict[str, Html], list[str]]:
    """Scores and pictures of a prediction against its reference."""
    others, warnings = ({}, []) if source is None else scoring.baselines(source, ref)
    pairs = compare({PREDICTION: cube} | others, ref, tolerance=tolerance)
    overall, by_band = scoring.score_rows(pairs)
    best = scoring.best_of(overall) if len(overall) > 1 else {}
    one, other = pairs[PREDICTION]
    n = int(one.notnull().any([d for d in one.dims if d not in ("pair", "time")]).sum())
    words = tag(
        "p",
        f"{n} dates with common pixels, prediction and reference at most {_days(tolerance)} apart; "
        "only pixels that all have count. RMSE, MAE and bias are in units of the values"
        + ("; the best value of each column is bold." if best else "."),
        class_="note",
    )
    drawn, found = pictures.draw_each(pictures.of_comparison(one, other, source))
    scores = join(
        [
            words,
            table(overall, caption="All bands together", best=best),
            table(by_band, caption="Each band", n_heads=2),
        ]
    )
    return {"Scores": scores, "Comparison": join(drawn)}, warnings + found


def _days(tolerance: str) -> str:
    days = pd.Timedelta(tolerance) / pd.Timedelta(days=1)
    return "1 day" if days == 1 else f"{days:g} days"


def _used(cube: Any, ref: Any | None, source: Any | None) -> Html:
    """What the cubes are, how they came about, and with which software."""
    roles = {"": cube} if ref is None else {"prediction": cube, "reference": ref}
    if source is not None:
        roles["source"] = source
    parts: list[Html] = []
    for role, own in roles.items():
        name = f" of the {role}" if role else ""
        parts += [
            table(facts.sensor_rows(own), caption=f"Sensors{name}", n_heads=2),
            table(facts.cube_rows(own), caption=f"Cube{name}"),
        ]
        lines = facts.history_lines(own)
        if lines:
            items = [tag("li", line) for line in lines]
            parts += [
                tag("h3", f"History{name}, oldest first"),
                tag("ol", *items, class_="history"),
            ]
    parts.append(table(facts.software_rows(), caption="Software of this report"))
    return join(parts)


def _warnings(found: Sequence[str]) -> Html:
    if not found:
        return tag("p", "None: pixels, flags and sensors give no reason to.")
    return tag("ul", *(tag("li", text, class_="warning") for text in dict.fromkeys(found)))


def _lead(cube: Any, warnings: Sequence[str]) -> str:
    layer = main_layer(cube)
    sizes = layer.sizes
    dates = ""
    if "time" in sizes:
        n_seen = int(has_look(layer).sum())
        told = "" if n_seen == sizes["time"] else f" ({n_seen} of them observed)"
        dates = f"{sizes['time']} dates{told}, "
    area = f"{sizes['y']} × {sizes['x']} pixels" if {"y", "x"} <= set(sizes) else "no grid"
    n = len(dict.fromkeys(warnings))
    return f"{dates}{area}; {n} warning{'' if n == 1 else 's'}."
