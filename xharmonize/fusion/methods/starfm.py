"""STARFM: coarse change carried to fine pixels by similar ones around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import chunks_of, cut_like, is_lazy, map_blocks, with_margin
from xharmonize.cube.regrid import regrid
from xharmonize.errors import OptionError
from xharmonize.fusion.consistency import degrade
from xharmonize.fusion.frame import MIN_SEEN, Sharpener, upsampled
from xharmonize.harmonizers.sums import line_block
from xharmonize.kernels import regression
from xharmonize.kernels.starfm import Search, starfm
from xharmonize.types import AnyArray, Float64Array, FloatArray

Pairs: TypeAlias = tuple[list[xr.DataArray], list[xr.DataArray]]
"""Fine images of the pairs, and coarse ones."""


@dataclass(frozen=True, kw_only=True)
class StarfmSI(Sharpener):
    """STARFM with one fine image, whose coarse partner is itself, degraded (STARFM-SI).

    Each band is predicted by itself, from the same band of the fine cube. A pixel is NaN where the
    fine image is. How far values may differ to be similar follows from the spread of the whole fine
    image, found once per date and band.

    Attributes
    ----------
    search : Search
        Window, classes, weights and uncertainties.
    """

    options: ClassVar[tuple[str, ...]] = (*Sharpener.options, "search")
    needs_like_bands: ClassVar[bool] = True
    name: str = "starfm-si"
    citation: str = (
        "Wu et al. 2020, IEEE J. Sel. Top. Appl. Earth Obs. Remote Sens. 13, 6206-6219; "
        "Gao et al. 2006, doi:10.1109/TGRS.2006.872081"
    )
    search: Search = field(default_factory=Search)

    def sharpened(self, coarse: xr.DataArray, **sources: xr.DataArray) -> Any:
        """Return what each date looks like at fine pixels."""
        like = self._grid(sources)
        fine, partners = self._pairs(coarse, sources)
        images = [regrid(one, like=like).data for one in fine]
        coarse_ones = [upsampled(one, like, self.shifts).data for one in (coarse, *partners)]
        return _predicted(coarse_ones[0], images, coarse_ones[1:], self.search)

    def _pairs(self, coarse: xr.DataArray, sources: Any) -> Pairs:
        """Fine images of the pairs, and their coarse ones."""
        fine = sources["fine"]
        seen = degrade(fine, coarse, psf=self.psf, shifts=self.shifts, min_valid=MIN_SEEN)
        return [fine], [seen]


@dataclass(frozen=True, kw_only=True)
class Starfm(StarfmSI):
    """STARFM with one or two pairs of a fine image and the coarse one of about the same time.

    A pixel is NaN where no pair has it in both images. The shift of a coarse partner against the
    fine cube is taken to be that of the date.

    Attributes
    ----------
    pairs : {1, 2}
        The clear pair nearest in time, or the last one before and the first one after each date;
        where one of these lacks a pixel, the other serves.
    """

    options: ClassVar[tuple[str, ...]] = (*StarfmSI.options, "pairs")
    name: str = "starfm"
    citation: str = "Gao et al. 2006, doi:10.1109/TGRS.2006.872081"
    pairs: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.pairs not in (1, 2):
            raise OptionError(
                "is no number of pairs", cure="give 1 or 2", argument="pairs", value=self.pairs
            )

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]
        """The fine image of each pair and its coarse partner."""
        return ("cube", *(name for role in self._roles for name in (role, f"coarse_{role}")))

    @property
    def _roles(self) -> tuple[str, ...]:
        return ("fine",) if self.pairs == 1 else ("before", "after")

    def _pairs(self, coarse: xr.DataArray, sources: Any) -> Pairs:  # noqa: ARG002
        return [sources[r] for r in self._roles], [sources[f"coarse_{r}"] for r in self._roles]


def _predicted(coarse: Any, fine: Sequence[Any], partners: Sequence[Any], search: Search) -> Any:
    """Predict (time, band, y, x) blocks of a fine grid, each with a margin around."""
    layers = [coarse, *fine, *partners]
    lead = next((one for one in layers if is_lazy(one)), coarse)
    layers = [cut_like(one, lead) for one in layers]  # alike, before margins make them overlap
    spread = [_spread(one) for one in layers[1 : 1 + len(fine)]]
    margin = {2: search.margin, 3: search.margin}
    wide = [with_margin(one, margin, fill=np.nan) for one in layers]
    sizes = [tuple(n - 2 * search.margin for n in chunks) for chunks in chunks_of(wide[0])[2:]]
    return map_blocks(
        partial(_predict_block, n_pairs=len(fine), search=search),
        ",".join(["tbyx"] * len(wide) + ["tb"] * len(spread)) + "->tbyx",
        *wide,
        *spread,
        sizes=dict(zip("yx", sizes)),
        dtype=np.float32,
        name="sharpen-starfm",
    )


def _predict_block(coarse: AnyArray, *arrays: AnyArray, n_pairs: int, search: Search) -> FloatArray:
    fine, partner, spread = (
        np.stack(arrays[k * n_pairs : (k + 1) * n_pairs], axis=1) for k in range(3)
    )
    dates = zip(coarse, fine, partner, spread)
    return np.stack([starfm(*one, search=search, margin=search.margin) for one in dates])


def _spread(fine: Any) -> Any:
    """Standard deviation (time, band) of whole images, lazily.

    To five digits: sums of other chunks differ in the last one, and a neighbour on the limit would
    count or not.
    """
    sums = map_blocks(
        line_block,
        "tbyx,tbyx->tyxbm",
        fine,
        fine,
        new={"m": 6},
        sizes={"y": 1, "x": 1},
        dtype=np.float64,
        name="sharpen-spread",
    )
    total = sums.sum(axis=(1, 2))
    return map_blocks(_spread_block, "tbm->tb", total, dtype=np.float64, name="sharpen-spread")


def _spread_block(sums: Float64Array) -> Float64Array:
    n, total, squares = (sums[..., k] for k in (regression.COUNT, regression.X, regression.XX))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
        digits = 10.0 ** (np.floor(np.log10(spread)) - 4)
        return np.where(spread > 0, np.round(spread / digits) * digits, spread)
