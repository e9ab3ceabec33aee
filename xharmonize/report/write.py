"""The report: one page of HTML that needs nothing else, and its pictures."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize._optional import require_installed
from xharmonize._progress import computing
from xharmonize._replace import Mode, require_mode, require_new, written_aside
from xharmonize.cube.contract import main_layer
from xharmonize.cube.dates import duration_in_days, worded_days
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, RadiometryError, StoreError, XHarmonizeError, printable
from xharmonize.metrics.pairing import compare
from xharmonize.report import facts
from xharmonize.report.facts import seen_values
from xharmonize.series.axis import has_observation
from xharmonize.types import Duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure


VOID = {"meta", "img", "br"}
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 68rem; margin: 0 auto; padding: 1rem 1.5rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #bbb; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
a { color: #0a4f8a; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0 1.2rem; font-size: .88rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #555; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
figure { margin: 1rem 0 1.6rem; }
figure img { max-width: 100%; height: auto; }
figcaption, .note { font-size: .88rem; color: #444; }
li.warning { margin: .3rem 0; }
li.warning::marker { content: "\\26A0\\FE0E  "; color: #a33c00; }
ol.history { font-size: .88rem; overflow-wrap: anywhere; }
td, th { overflow-wrap: break-word; }
footer { margin-top: 2.5rem; font-size: .8rem; color: #555; border-top: 1px solid #bbb; }
@page { margin: 15mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  table { font-size: 7.5pt; } figure img { max-height: 11cm; width: auto; }
  figure, tr { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .scroll { overflow: visible; } }
"""
# Nothing is fetched and nothing runs, whatever the text of a catalogue says.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


def tag(element: str, /, *children: str | Html, **attributes: str) -> Html:
    """Return an element; an underscore at the end of an attribute's name is left out."""
    attached = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
    )
    if element in VOID:
        return Html(f"<{element}{attached}>")
    return Html(f"<{element}{attached}>{join(children)}</{element}>")


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def join(parts: Sequence[str | Html]) -> Html:
    """Return parts behind one another."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str,
    n_heads: int = 1,
    best: Mapping[str, float] | None = None,
) -> Html:
    """Return a table of rows that share their keys.

    Parameters
    ----------
    rows : sequence of mapping
        Numbers are set to the right, NaN is a dash.
    caption : str
    n_heads : int
        Number of columns at the left that head their row.
    best : mapping of str to float, optional
        Value of a column that is set bold.
    """
    if not rows:
        return Html("")
    names = list(rows[0])
    is_number = [_is_number(rows[0][name]) for name in names]
    head = tag(
        "tr", *(_cell("th", name, right, scope="col") for name, right in zip(names, is_number))
    )
    body = []
    for row in rows:
        cells = [
            _cell("th", row[name], right, scope="row")
            if k < n_heads
            else _cell("td", row[name], right, is_bold=(best or {}).get(name) == row[name])
            for k, (name, right) in enumerate(zip(names, is_number))
        ]
        body.append(tag("tr", *cells))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(name: str, value: Any, right: bool, *, is_bold: bool = False, **attributes: str) -> Html:
    if right:
        attributes["class_"] = "number"
    text = written(value)
    return tag(name, tag("strong", text) if is_bold else text, **attributes)


def written(value: Any) -> str:
    """Return a value as people write it: floats with four digits, NaN as a dash."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:#.4g}".removesuffix(".")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def picture(figure: Figure, *, alt: str, caption: str) -> Html:
    """Return a figure with its pixels inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (str(round(size * 96)) for size in figure.get_size_inches())
    image = tag("img", src=f"data:image/png;base64,{data}", alt=alt, width=width, height=height)
    return tag("figure", image, tag("figcaption", caption))


def page(title: str, *, lead: str, sections: Mapping[str, Html], foot: str) -> str:
    """Return a whole document; sections that are empty are left out."""
    shown = {name: body for name, body in sections.items() if body}
    keys = {name: f"section-{k}" for k, name in enumerate(shown, 1)}
    links = [tag("li", tag("a", name, href=f"#{keys[name]}")) for name in shown]
    nav = tag("nav", tag("ul", *links), aria_label="Sections")
    body = [tag("section", tag("h2", name), part, id=keys[name]) for name, part in shown.items()]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    header = tag("header", tag("h1", title), tag("p", lead), nav)
    content = tag("body", header, tag("main", *body), tag("footer", tag("p", foot)))
    return f"<!DOCTYPE html>\n{tag('html', head, content, lang='en')}\n"


Cube = xr.DataArray | xr.Dataset
STRETCH = (0.0, 0.2)
TRUE_COLOUR = ("red", "green", "blue")
_NDVI = ({"red", "nir08"}, {"red", "nir"})


def draw_each(made: Mapping[str, Callable[[], Html]]) -> tuple[list[Html], list[str]]:
    """Return the pictures that could be made, and why others could not."""
    pictures, notes = [], []
    for name, make in made.items():
        try:
            pictures.append(make())
        except XHarmonizeError as error:
            notes.append(f"No picture of {name}: {error}")
    return pictures, notes


def of_series(cube: Cube) -> Mapping[str, Callable[[], Html]]:
    """Pictures of a cube along time."""
    made: dict[str, Callable[[], Html]] = {"the dates": lambda: _timeline(cube)}
    if "sensor" in main_layer(cube).coords:
        made["months"] = lambda: _frequency(cube)
    made["the course"] = lambda: _course(cube)
    made["maps"] = lambda: _map(cube)
    return made


def of_comparison(
    one: xr.DataArray, other: xr.DataArray, source: Cube | None
) -> Mapping[str, Callable[[], Html]]:
    """Pictures of a prediction and its reference at common dates."""
    return {
        "maps side by side": lambda: _side_by_side(one, other, source),
        "the density": lambda: _scatter(one, other),
        "the errors": lambda: _errors(one, other),
    }


def _timeline(cube: Cube) -> Html:
    n = int(has_observation(main_layer(cube)).sum())
    alt = f"Dates of acquisition of each platform; {n} in all, listed in the table of sensors."
    return picture(xh.plot.timeline(cube), alt=alt, caption="Dates of acquisition.")


def _frequency(cube: Cube) -> Html:
    counts = xh.series.frequency(cube).compute()
    days = counts["scenes"].isel(fraction=0).sum("month")
    words = ", ".join(f"{name} {int(n)}" for name, n in zip(days["sensor"].values, days.values))
    return picture(
        xh.plot.frequency(counts),
        alt=f"Bars of days seen in each month, by sensor. Days with any valid pixel: {words}.",
        caption="Days seen in each month, by share of valid pixels.",
    )


def _course(cube: Cube) -> Html:
    layer = main_layer(cube)
    shown: Any = cube
    what = str(layer.attrs.get("long_name", layer.name))
    if "band" in layer.dims:
        bands = set(layer["band"].values.astype(str))
        if any(need <= bands for need in _NDVI):
            shown, what = xh.index(shown, "ndvi"), "NDVI"
        else:
            what = f"{layer['band'].values[0]} {what}"
    return picture(
        xh.plot.series(shown),
        alt=f"Mean {what} of the area over time, one mark for each date and sensor.",
        caption=f"Mean {what} of the area, dates with at least half of its pixels valid.",
    )


def _map(cube: Cube) -> Html:
    layer = main_layer(cube)
    date = layer["time"].values[clearest(seen_values(cube))]
    day = np.datetime_as_string(date, unit="D")
    return picture(
        xh.plot.maps(cube, time=str(date), stretch=stretch_of(layer)),
        alt=f"Map of the clearest date, {day}.",
        caption=f"The date with most observed pixels, {day}.",
    )


def clearest(layer: xr.DataArray) -> int:
    """Position of the first date with most valid pixels; computes."""
    valid = layer.notnull()
    dims = [dim for dim in valid.dims if dim not in ("time", "pair")]
    return int(valid.mean(dims).compute().values.argmax())


def stretch_of(layer: xr.DataArray) -> tuple[float, float] | None:
    """One fixed stretch for true colour."""
    has_colour = "band" in layer.dims and set(TRUE_COLOUR) <= set(layer["band"].values.astype(str))
    return STRETCH if has_colour else None


def _side_by_side(one: xr.DataArray, other: xr.DataArray, source: Cube | None) -> Html:
    dims = [dim for dim in ("pair", "time") if dim in one.dims]
    place = clearest(one) if dims else 0
    layers = [layer.isel(dict.fromkeys(dims, place)) for layer in (one, other)]
    day = np.datetime_as_string(layers[1]["time"].values, unit="D")
    titles = ["prediction", "reference"]
    when = layers[0].coords.get("time_source", layers[0]["time"]).values
    layers[0] = layers[0].assign_coords(time=when)
    if source is not None:
        cube = main_layer(source)
        layers.insert(0, cube.isel(time=int(np.abs(cube["time"].values - when).argmin())))
        titles.insert(0, "source")
    return picture(
        xh.plot.maps(*layers, titles=titles, stretch=stretch_of(one)),
        alt=f"Maps side by side of {', '.join(titles)} on {day}, all with one stretch.",
        caption=f"The pair of dates with most common pixels; the reference is of {day}.",
    )


def _scatter(one: xr.DataArray, other: xr.DataArray) -> Html:
    return picture(
        xh.plot.scatter(one, other),
        alt="Density of prediction against reference for each band, with the 1:1 line and the "
        "least-squares line; the scores are in the tables.",
        caption="Prediction against reference over all common pixels and dates.",
    )


def _errors(one: xr.DataArray, other: xr.DataArray) -> Html:
    return picture(
        xh.plot.errors(one, other),
        alt="Maps of the mean error of each band over the common dates; RMSE and bias of each map "
        "stand above it.",
        caption="Mean of prediction minus reference over the common dates: red is too high, blue "
        "too low.",
    )


PREDICTION = "prediction"


def write_report(
    cube: xr.DataArray | xr.Dataset,
    path: str | Path,
    *,
    reference: xr.DataArray | xr.Dataset | None = None,
    source: xr.DataArray | xr.Dataset | None = None,
    tolerance: Duration = "2D",
    title: str = "",
    notes: Sequence[str] = (),
    mode: Mode = "w-",
    progress: bool | None = None,
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
    reference : DataArray or Dataset, optional
        The reference, on the same grid.
    source : DataArray or Dataset, optional
        What the prediction was made from, on its own grid; only with `reference`.
    tolerance : str or number
        Largest gap between dates that are compared, as for `xharmonize.match_pairs`.
    title : str
        Heading of the page.
    notes : sequence of str
        Warnings to add.
    mode : {"w-", "w"}
        ``"w-"`` refuses a file that is there, ``"w"`` replaces it.
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ContractError
        If a Dataset holds neither reflectance nor one index, or `source` is given without
        `reference`.
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
    require_installed("matplotlib", extra="plot")
    cube, reference, source = at_door(cube), at_door(reference), at_door(source)
    if source is not None and reference is None:
        raise ContractError("source= is compared with a reference", cure="give reference= too")
    if not np.issubdtype(main_layer(cube).dtype, np.floating):
        raise RadiometryError(
            f"the cube holds digital numbers ({main_layer(cube).dtype})",
            cure="a report is on reflectance or an index: call cube.harmonize.decode() first",
        )
    require_mode(mode)
    place = Path(path).expanduser().resolve()
    if place.is_dir() or not place.parent.is_dir():
        raise StoreError(f"{path} cannot be written", cure="give a file in a folder that exists")
    require_new(place, mode)
    named = title or ("Harmonised series" if reference is None else "Prediction against reference")
    with computing(f"Writing {place.name}", progress):
        sections, warnings = _sections(cube, reference, source, tolerance)
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
    cube: Any, reference: Any | None, source: Any | None, tolerance: Duration
) -> tuple[dict[str, Html], list[str]]:
    """Parts of the page by heading, and warnings."""
    sections: dict[str, Html] = {}
    warnings: list[str] = []
    if reference is not None:
        compared, found = _comparison(cube, reference, source, tolerance)
        sections |= compared
        warnings += found
    shares = facts.share_rows(cube)
    checks, found = facts.radiometry_rows(cube)
    warnings += [*found, *facts.warnings_of(cube, shares)]
    steps, found = facts.step_rows(cube)
    warnings += found
    drawn: list[Html] = []
    if "time" in main_layer(cube).dims:
        drawn, found = draw_each(of_series(cube))
        warnings += found
    own = "Prediction" if reference is not None else "Series"
    sections[own] = join(drawn)
    sections["What was used"] = _used(cube, reference, source)
    sections["Checks"] = join(
        [
            table(checks, caption="Pixels against metadata", n_heads=2),
            table(shares, caption="Origin and flags of valid values", n_heads=2),
            table(steps, caption="Step between sensors (sensor minus the other), [1]", n_heads=2),
        ]
    )
    return sections, warnings


def _comparison(
    cube: Any, reference: Any, source: Any | None, tolerance: Duration
) -> tuple[dict[str, Html], list[str]]:
    """Scores and pictures of a prediction against its reference."""
    within = worded_days(duration_in_days(tolerance, argument="tolerance", least=0))
    others, warnings = ({}, []) if source is None else facts.baselines(source, reference)
    pairs = compare({PREDICTION: cube} | others, reference, tolerance=tolerance)
    overall, by_band = facts.score_rows(pairs)
    best = facts.best_of(overall) if len(overall) > 1 else {}
    one, other = pairs[PREDICTION]
    n = int(one.notnull().any([d for d in one.dims if d not in ("pair", "time")]).sum())
    words = tag(
        "p",
        f"{n} dates with common pixels, prediction and reference at most {within} apart; "
        "only pixels that all have count. RMSE, MAE and bias are in units of the values"
        + ("; the best value of each column is bold." if best else "."),
        class_="note",
    )
    drawn, found = draw_each(of_comparison(one, other, source))
    scores = join(
        [
            words,
            table(overall, caption="All bands together", best=best),
            table(by_band, caption="Each band", n_heads=2),
        ]
    )
    return {"Scores": scores, "Comparison": join(drawn)}, warnings + found


def _used(cube: Any, reference: Any | None, source: Any | None) -> Html:
    """What the cubes are, how they came about, and with which software."""
    roles = {"": cube} if reference is None else {"prediction": cube, "reference": reference}
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
        n_seen = int(has_observation(layer).sum())
        told = "" if n_seen == sizes["time"] else f" ({n_seen} of them observed)"
        dates = f"{sizes['time']} dates{told}, "
    area = f"{sizes['y']} × {sizes['x']} pixels" if {"y", "x"} <= set(sizes) else "no grid"
    n = len(dict.fromkeys(warnings))
    return f"{dates}{area}; {n} warning{'' if n == 1 else 's'}."
