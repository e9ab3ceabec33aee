"""Sphinx: thumbnails of the gallery, and pages whose observations are not at hand.

A page of ``{gallery}`` entries names figures of executed pages by their number, or files:

    tutorials/first-series | -1 | The series of one pixel
    reference/measurements#dense-ndvi-at-10-m | reference/dense_10m.png | What a day is worth

Thumbnails are made when the site is built. A page on real observations that is not executed (see
``xharmonize_unexecuted`` in conf.py) says so, and shows ``pictures/NAME.png``, a committed copy of
its thumbnail: after a build with the observations, copy ``SITE/_static/gallery/NAME.png`` there.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH = 720
"""Pixels of a thumbnail, twice what a card shows."""


class Entries(nodes.General, nodes.Element):
    """Cards of the gallery, until the pages they show are known."""


class Gallery(SphinxDirective):
    """Cards with a figure, a caption, and a link to the page whose code made it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Read ``page | figure | caption`` from each line."""
        entries = [[part.strip() for part in line.split("|", 2)] for line in self.content if line]
        return [Entries(entries=entries)]


def fill(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Replace entries by cards, once all pages have been read."""
    for node in list(doctree.findall(Entries)):
        cards = "".join(_card(app, page, *entry) for entry in node["entries"])
        node.replace_self(nodes.raw("", f'<div class="gallery">{cards}</div>', format="html"))


def _card(app: Sphinx, page: str, target: str, figure: str, caption: str) -> str:
    name, _, section = target.partition("#")
    picture = _picture(app, name, figure)
    shown = Path(app.outdir) / "_static" / "gallery" / _name(name, figure)
    shown.parent.mkdir(parents=True, exist_ok=True)
    _shrink(picture, shown)
    link = app.builder.get_relative_uri(page, name) + (f"#{section}" if section else "")
    source = "../" * page.count("/") + f"_static/gallery/{shown.name}"
    return (
        f'<a href="{escape(link)}"><img src="{source}" alt="{escape(caption)}" loading="lazy"/>'
        f"<span>{escape(caption)}</span></a>"
    )


def _name(page: str, figure: str) -> str:
    """File name of a thumbnail: that of the page for its last figure."""
    if "." in figure:
        return Path(figure).name
    return Path(page).name + ("" if figure == "-1" else f"-{figure}") + ".png"


def _picture(app: Sphinx, page: str, figure: str) -> Path:
    """File of a figure: named, of an executed page, or committed."""
    if "." in figure:
        return Path(app.srcdir) / figure
    if page in app.config.xharmonize_unexecuted:
        return Path(app.srcdir) / "pictures" / _name(page, figure)
    images = list(app.env.get_doctree(page).findall(nodes.image))
    number = int(figure)
    return Path(app.srcdir) / images[number - 1 if number > 0 else number]["uri"]


def _shrink(picture: Path, shown: Path) -> None:
    from PIL import Image

    if picture.suffix == ".svg":
        shown.write_bytes(picture.read_bytes())
        return
    with Image.open(picture) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.convert("RGBA").getchannel("A"))
    flat.thumbnail((WIDTH, WIDTH))
    flat.quantize(128).save(shown, optimize=True)


def say_unexecuted(app: Sphinx, page: str, source: list[str]) -> None:
    """Say under the title of a page that its code was not run here, and show what it ends in."""
    if page not in app.config.xharmonize_unexecuted:
        return
    title = next(line for line in source[0].splitlines() if line.startswith("# "))
    note = (
        ":::{note}\nThe real observations of this page were not at hand where this site was built: "
        "its code stands without results. It ends in this picture.\n\n"
        f"![The last figure of this page](../pictures/{Path(page).name}.png)\n:::"
    )
    source[0] = source[0].replace(title, f"{title}\n\n{note}", 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the two steps of a build."""
    app.add_config_value("xharmonize_unexecuted", [], "env", [list])
    app.add_node(Entries)
    app.add_directive("gallery", Gallery)
    app.connect("source-read", say_unexecuted)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
