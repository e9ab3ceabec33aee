"""Small generators in bundles, cubes that suit them, and what they should give, done plainly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from helpers.cards import generator_card, source
from xharmonize import testing
from xharmonize.harmonizers.generator import GeneratorHarmonizer
from xharmonize.models import GeneratorCard, Lattice
from xharmonize.models.architectures import build, seeded
from xharmonize.models.bundle import read_weights, write_bundle

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
CORNER = (500160.0, 5600160.0)
"""A corner of pixels of 10, 20 and 30 m and of tiles: a multiple of 480 m."""
LATTICE = Lattice(resolution=30.0, tile=16, buffer=4)


def small_card(
    architecture: str = "mgan-unet", lattice: Lattice = LATTICE, **changes: Any
) -> GeneratorCard:
    """A deep network: each of its outputs depends on the whole tile."""
    sizes = {"mgan-unet": {"width": 4, "depth": 4, "max_factor": 2}, "small-conv": {"width": 4}}
    card = generator_card(architecture, **sizes[architecture])
    inputs = [
        replace(one, mean=(0.1,) * len(one.bands), scale=(0.3,) * len(one.bands))
        for one in card.inputs
    ]
    out = replace(card.output, mean=(0.2,) * 6, scale=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    return replace(card, lattice=lattice, inputs=tuple(inputs), output=out, **changes)


def generator(
    folder: Path, card: GeneratorCard | None = None, **options: Any
) -> GeneratorHarmonizer:
    """A generator with seeded weights."""
    card = card or small_card()
    ref = write_bundle(
        folder / f"{card.architecture}-{len(list(folder.iterdir()))}", card, seeded(card)
    )
    return GeneratorHarmonizer(ref=ref, card=card, **options)


def sentinel(
    shape: tuple[int, int] = (96, 96),
    *,
    west: int = 0,
    north: int = 0,
    missing: float = 0.0,
    dates: int = 2,
    seed: int = 0,
) -> xr.DataArray:
    """A window of one endless field at 10 m, its 20 m bands held by nearest.

    Parameters
    ----------
    west, north : int
        Pixels from `CORNER` to the east and to the south.
    missing : float
        Share of missing pixels, the same ones wherever the window lies.
    """
    rows, columns = north + np.arange(shape[0]), west + np.arange(shape[1])
    days = [f"2018-07-{1 + 5 * n:02d}T10:50" for n in range(dates)]
    origin = (CORNER[0] + 10.0 * west, CORNER[1] - 10.0 * north)
    cube = testing.example_cube(bands=BANDS, dates=days, shape=shape, origin=origin, missing=0.0)
    values = np.empty(cube.shape, np.float32)
    for date in range(dates):
        for band in range(6):
            y, x = (rows // 2, columns // 2) if band > 3 else (rows, columns)
            values[date, band] = noise(y[:, None], x[None], seed + 10 * date + band)
        hole = noise(rows[:, None], columns[None], seed + 10 * date + 7) < missing * 0.5
        values[date][:, hole] = np.nan
    return cube.copy(data=values)


def noise(y: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """Uniform in [0, 0.5), a function of place and seed alone."""
    mixed = (y.astype(np.int64) * 73856093) ^ (x.astype(np.int64) * 19349663) ^ (seed * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 131072.0


class Plain:
    """A generator done without thought of speed: one tile after another, all in numpy."""

    def __init__(self, model: GeneratorHarmonizer) -> None:
        self.card, self.lattice = model.card, model.lattice
        self.network = build(model.card, read_weights(model.ref))

    def __call__(
        self, cube: xr.DataArray, rows: range, columns: range, **others: xr.DataArray
    ) -> np.ndarray:
        """Output pixels numbered from the lattice's origin, without a mask: (time, band, y, x)."""
        n_bands = len(self.card.output.bands)
        found = np.zeros((cube.sizes["time"], n_bands, len(rows), len(columns)))
        across = self.lattice.tiles(columns.start, columns.stop)
        places = [(j, i) for j in self.lattice.tiles(rows.start, rows.stop) for i in across]
        for date in range(cube.sizes["time"]):
            images = {"cube": cube, **others}
            tiles = self.run({n: one.isel(time=date) for n, one in images.items()}, places)
            for place, values in zip(places, tiles):
                self._add(values, place, (rows, columns), found[date])
        return found

    def _add(self, values, place, ranges, found) -> None:
        tile, buffer, stride = self.lattice.tile, self.lattice.buffer, self.lattice.stride
        ramp = np.ones(tile)
        if self.lattice.merge == "blend":
            rise = (np.arange(2 * buffer) + 0.5) / (2 * buffer)
            ramp[: 2 * buffer], ramp[-2 * buffer :] = rise, 1 - rise
        else:
            ramp[:buffer] = ramp[tile - buffer :] = 0
        inside, outside = [], []
        for number, pixels in zip(place, ranges):
            there = number * stride - buffer + np.arange(tile) - pixels.start
            inside.append(np.flatnonzero((there >= 0) & (there < len(pixels))))
            outside.append(there[inside[-1]])
        part = (np.outer(ramp, ramp) * values)[:, inside[0][:, None], inside[1]]
        found[:, outside[0][:, None], outside[1]] += part

    def run(self, images: dict[str, xr.DataArray], places: list[tuple[int, int]]) -> np.ndarray:
        """Some tiles of one date: (tile, band, y, x)."""
        inputs = []
        for one in self.card.inputs:
            image = images[one.source]
            pixel = float(image.x[1] - image.x[0])
            factor = int(one.gsd // pixel)
            side = self.lattice.resolution / one.gsd
            first = self.lattice.starts(one.gsd, one.phase)
            own = first_finite(image.sel(band=list(one.bands)).values, factor)
            top, left = float(image.y[0]) + pixel / 2, float(image.x[0]) - pixel / 2
            corner = ((one.phase[1] - top) // pixel, (left - one.phase[0]) // pixel)
            tiles = []
            for place in places:
                pixels = [
                    [
                        mirrored(
                            start + round(k * self.lattice.stride * side) + n - int(edge // factor),
                            size,
                        )
                        for n in range(round(self.lattice.tile * side))
                    ]
                    for start, k, edge, size in zip(first, place, corner, own.shape[1:])
                ]
                tiles.append([filled(band[np.ix_(*pixels)]) for band in own])
            mean, scale = (np.array(v)[:, None, None] for v in (one.mean, one.scale))
            inputs.append(torch.from_numpy(((np.array(tiles) - mean) / scale).astype("f4")))
        with torch.no_grad():
            values = self.network(*inputs).numpy()
        out = self.card.output
        return values * np.array(out.scale)[:, None, None] + np.array(out.mean)[:, None, None]


def first_finite(image: np.ndarray, factor: int) -> np.ndarray:
    """Held pixels taken back, of an image that starts with a whole one."""
    height, width = (-(-size // factor) * factor for size in image.shape[1:])
    found = np.full((image.shape[0], height // factor, width // factor), np.nan)
    whole = np.full((image.shape[0], height, width), np.nan)
    whole[:, : image.shape[1], : image.shape[2]] = image
    for y in range(factor):
        for x in range(factor):
            found = np.where(np.isfinite(found), found, whole[:, y::factor, x::factor])
    return found


def mirrored(place: int, size: int) -> int:
    """A place beyond the edges, mirrored back."""
    while not 0 <= place < size:
        place = -1 - place if place < 0 else 2 * size - 1 - place
    return place


def filled(image: np.ndarray) -> np.ndarray:
    """Nearest valid pixel of the row, else the nearest row that has some; west and north first."""
    out = image.copy()
    has_some = np.isfinite(image).any(axis=1)
    for y in np.flatnonzero(has_some):
        valid = np.flatnonzero(np.isfinite(image[y]))
        distance = np.abs(valid - np.arange(image.shape[1])[:, None])
        out[y] = image[y, valid[np.argmin(distance, axis=1)]]
    for y in np.flatnonzero(~has_some):
        rows = np.flatnonzero(has_some)
        out[y] = out[rows[np.argmin(np.abs(rows - y))]]
    return out


__all__ = ["BANDS", "CORNER", "LATTICE", "Plain", "generator", "sentinel", "small_card", "source"]
