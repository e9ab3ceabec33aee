"""STARFM: a date from a fine image of another date, and what changed in coarse pixels since."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, map_blocks, with_margin
from xharmonize.fusion.consistency import degrade
from xharmonize.fusion.frame import Sharpener, upsampled
from xharmonize.kernels.starfm import Search, starfm
from xharmonize.types import AnyArray

MIN_VALID = 0.5
"""Valid fraction of the fine pixels under a coarse one [1] from which on its mean is one of it."""


@dataclass(frozen=True, kw_only=True)
class StarfmSI(Sharpener):
    """STARFM with a single fine image, whose coarse partner is itself, degraded.

    Each band is sharpened by the same band of the fine cube. The result is NaN where the fine pixel
    is.

    Attributes
    ----------
    search : Search
        How similar pixels are searched and weighted.

    References
    ----------
    Gao et al. 2006, doi:10.1109/TGRS.2006.872081; Wu et al. 2020, doi:10.1109/JSTARS.2020.2968842.
    """

    needs_like_bands: ClassVar[bool] = True
    name: str = "starfm-si"
    citation: str = "Wu et al. 2020, doi:10.1109/JSTARS.2020.2968842"
    search: Search = field(default_factory=Search)

    def sharpened(self, coarse: xr.DataArray, **sources: xr.DataArray) -> Any:
        """Return the prediction from the fine image of each date."""
        fine = sources["fine"]
        seen = degrade(fine, coarse, psf=self.psf, shifts=self.shifts, min_valid=MIN_VALID)
        return self._predict(coarse, [(fine, self._brought(seen))])

    def _brought(self, coarse: xr.DataArray) -> xr.DataArray:
        """Coarse pixels on the fine grid."""
        return upsampled(coarse, self._grid({}), self.shifts)

    def _predict(self, coarse: xr.DataArray, pairs: list[tuple[xr.DataArray, xr.DataArray]]) -> Any:
        """Run the kernel on blocks with a margin.

        Parameters
        ----------
        coarse : (time, band, y, x) DataArray
            On its own grid.
        pairs : list of (DataArray, DataArray)
            Fine image and coarse partner, both on the fine grid.
        """
        whole = self._brought(coarse).data
        arrays = [cut_like(one.data, whole) for pair in pairs for one in pair]
        margin = self.search.margin
        around = {2: margin, 3: margin}
        padded = [with_margin(one, around, fill=np.nan) for one in (whole, *arrays)]
        spread = [_spread(fine) for fine, _ in pairs]
        chunks = getattr(padded[0], "chunks", None)
        inner = {} if chunks is None else dict(zip("yx", (_less(c, margin) for c in chunks[2:])))
        inputs = ",".join(["tbyx"] * len(padded) + ["tb"] * len(spread))
        return map_blocks(
            partial(_run, search=self.search),
            f"{inputs}->tbyx",
            *padded,
            *spread,
            dtype=np.float32,
            name="starfm",
            sizes=inner,
        )


@dataclass(frozen=True, kw_only=True)
class Starfm(StarfmSI):
    """STARFM with one or two pairs of a coarse and a fine image of about the same day.

    Attributes
    ----------
    pairs : {1, 2}
        The clear pair nearest in time, or the last one before and the first one after each date;
        where one of these lacks a pixel, the other is enough.
    """

    name: str = "starfm"
    citation: str = "Gao et al. 2006, doi:10.1109/TGRS.2006.872081"
    pairs: Literal[1, 2] = 1

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]
        """The fine image and its coarse partner of each pair."""
        both = ("before", "coarse_before", "after", "coarse_after")
        return ("cube", *(("fine", "coarse_fine") if self.pairs == 1 else both))

    def sharpened(self, coarse: xr.DataArray, **sources: xr.DataArray) -> Any:
        """Return the prediction from the pairs of each date."""
        roles = ("fine",) if self.pairs == 1 else ("before", "after")
        pairs = [(sources[role], self._brought(sources[f"coarse_{role}"])) for role in roles]
        return self._predict(coarse, pairs)


def _spread(fine: xr.DataArray) -> Any:
    """Standard deviation (time, band) of whole images [1]; rounded, as blocks add up variously."""
    return fine.astype(np.float64).std(["y", "x"]).astype(np.float32).data


def _less(sizes: tuple[int, ...], margin: int) -> tuple[int, ...]:
    return tuple(size - 2 * margin for size in sizes)


def _run(*blocks: AnyArray, search: Search) -> AnyArray:
    """Predict the dates of a block: coarse, fine and partner of each pair, spread of each."""
    n_pairs = (len(blocks) - 1) // 3
    coarse, pairs, spread = blocks[0], blocks[1 : 1 + 2 * n_pairs], blocks[1 + 2 * n_pairs :]
    found = [
        starfm(
            coarse[t],
            np.stack([one[t] for one in pairs[0::2]]),
            np.stack([one[t] for one in pairs[1::2]]),
            np.stack([one[t] for one in spread]),
            search=search,
            margin=search.margin,
        )
        for t in range(len(coarse))
    ]
    return np.stack(found)
