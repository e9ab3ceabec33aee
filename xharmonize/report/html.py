"""A page of HTML from parts: text is escaped unless it is `Html` already."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xharmonize.errors import printable

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
