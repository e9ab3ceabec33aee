"""Figures that notebooks show by themselves."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

SHOWN_DPI = 90
"""Resolution in a notebook; files are written at the figure's own."""


class ShownFigure(Figure):
    """A figure without a window, shown once where a cell of a notebook returns it.

    Matplotlib teaches notebooks to draw figures only when `pyplot` or ``%matplotlib inline`` is
    used. Where that was done, IPython prefers its own way to this one, so nothing is shown twice.
    """

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", dpi=SHOWN_DPI)
        return stream.getvalue()
