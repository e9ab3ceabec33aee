"""What is simulated: place, dates, orbits, physics and the metadata of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from xharmonize.errors import (
    GridError,
    RadiometryError,
    TimeAxisError,
    UnknownSensorError,
    suggest,
)
from xharmonize.simulate.noise import Window, draw, name_key

Variant: TypeAlias = Literal["a", "b", "c"]
"""Physics of point spread, atmosphere and mixing: train on one, test on another."""

BaselinePolicy: TypeAlias = Literal["with-offset", "without-offset", "mixed"]
"""Sentinel-2 processing baselines: 05.10 (offset -1000), 02.14 (none), or drawn per datatake."""

Effect: TypeAlias = Literal["veil", "dark-target", "terrain", "cloud-edge", "water"]
"""What goes wrong and shows in the image: thin cirrus and patches of aerosol; a correction that
depends on dark vegetation, sun and baseline; light on slopes with cast shadows; light scattered by
clouds around and the penumbra of their shadows; sun glint on water."""

EFFECTS: tuple[Effect, ...] = ("veil", "dark-target", "terrain", "cloud-edge", "water")
"""All effects that the image reveals."""

FINE = 2.5
"""Side of the cells on which truth is rendered [m]."""

TILE = 960.0
"""Side of the tiles that are rendered at once [m]: a multiple of every pixel size here."""

HALO = 90.0
"""Margin rendered around a tile [m]: reach of the widest point spread plus the largest shift."""


@dataclass(frozen=True, kw_only=True)
class Orbit:
    """One platform on one repeating orbit over the scene.

    Attributes
    ----------
    sensor, platform : str
        Names in the sensor registry.
    relative_orbit : int
        Relative orbit, or WRS path.
    first : str
        Any date (ISO) on which it passes.
    repeat : int
        Days between passes.
    hour : float
        Time of the pass [h UTC].
    view_zenith, view_azimuth : float
        View at the scene [degrees]; for radar the incidence angle, and the azimuth towards the
        satellite.
    direction : {"ascending", "descending"}
        Direction of flight.
    """

    sensor: str
    platform: str
    relative_orbit: int
    first: str
    repeat: int
    hour: float
    view_zenith: float
    view_azimuth: float
    direction: Literal["ascending", "descending"] = "descending"


def _orbit(
    sensor: str, platform: str, relative: int, first: str, repeat: int, hour: float,
    view: tuple[float, float],
) -> Orbit:  # fmt: skip
    return Orbit(
        sensor=sensor,
        platform=platform,
        relative_orbit=relative,
        first=first,
        repeat=repeat,
        hour=hour,
        view_zenith=view[0],
        view_azimuth=view[1],
    )


_S2, _LANDSAT, _GAOFEN, _S1 = (
    "sentinel-2-l2a",
    "landsat-c2-l2",
    "gaofen-1-ard",
    "sentinel-1-rtc",
)

DEFAULT_ORBITS: tuple[Orbit, ...] = (
    _orbit(_S2, "sentinel-2a", 51, "2023-08-23", 10, 10.90, (8.0, 105.0)),
    _orbit(_S2, "sentinel-2b", 51, "2023-08-28", 10, 10.90, (8.0, 105.0)),
    _orbit(_S2, "sentinel-2a", 94, "2023-08-26", 10, 11.05, (5.1, 280.0)),
    _orbit(_S2, "sentinel-2b", 94, "2023-08-31", 10, 11.05, (5.1, 280.0)),
    _orbit(_LANDSAT, "landsat-8", 198, "2018-07-17", 16, 10.66, (3.5, 282.0)),
    _orbit(_LANDSAT, "landsat-9", 198, "2018-07-25", 16, 10.66, (3.5, 282.0)),
    _orbit(_LANDSAT, "landsat-8", 199, "2018-07-24", 16, 10.76, (5.0, 102.0)),
    _orbit(_LANDSAT, "landsat-9", 199, "2018-08-01", 16, 10.76, (5.0, 102.0)),
    _orbit(_GAOFEN, "gaofen-1", 21, "2018-07-16", 8, 11.30, (14.0, 98.0)),
    _orbit(_GAOFEN, "gaofen-1", 65, "2018-07-20", 8, 11.45, (11.0, 281.0)),
    _orbit(_S1, "sentinel-1a", 161, "2018-07-03", 12, 17.54, (37.0, 260.0)),
    _orbit(_S1, "sentinel-1b", 161, "2018-07-09", 12, 17.54, (37.0, 260.0)),
    _orbit(_S1, "sentinel-1a", 37, "2018-07-06", 12, 5.85, (34.0, 100.0)),
    _orbit(_S1, "sentinel-1b", 37, "2018-07-12", 12, 5.85, (34.0, 100.0)),
)
"""Orbits over western Belgium.

Sentinel-2 phases follow from the absolute orbit of a dated product; Landsat's from
dated scenes, with Landsat 9 eight days after Landsat 8. Missions are not cut at their launch.
Phases of Gaofen-1 and Sentinel-1 are plausible, not real.
"""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """How items say what they say; the pixels and the truth do not change.

    Attributes
    ----------
    stac_version : {"1.0.0", "1.1.0"}
        Version, and with it the place of band fields: ``raster:bands`` and ``eo:bands``, or
        ``bands`` with ``raster:scale`` and ``raster:offset``.
    projection : {"proj:epsg", "proj:code"}
        Field that names the CRS.
    projection_at : {"item", "asset"}
        Where that field stands.
    raster : {"stated", "absent"}
        Whether scale and offset are written down at all.
    boa_offset_applied : bool, optional
        Value of ``earthsearch:boa_offset_applied`` on Sentinel-2 items; True means the catalogue
        took the offset off the digital numbers (the pixels follow). None leaves the field out.
    platform : {"stated", "absent"}
        Whether items name their platform.
    """

    stac_version: Literal["1.0.0", "1.1.0"] = "1.0.0"
    projection: Literal["proj:epsg", "proj:code"] = "proj:epsg"
    projection_at: Literal["item", "asset"] = "item"
    raster: Literal["stated", "absent"] = "stated"
    boa_offset_applied: bool | None = None
    platform: Literal["stated", "absent"] = "stated"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A place and a period seen by several sensors, with everything that goes wrong on the way.

    Attributes
    ----------
    seed : int
        The same seed gives the same landscape and weather, whatever the size and the dates.
    start, end : str
        First and last day (ISO), both included.
    center : (float, float)
        Middle of the scene (x, y) in `crs` [m].
    size : (float, float)
        Width and height [m]; every grid covers at least this, in whole pixels.
    crs : str
        A projected CRS in metres.
    sensors : tuple of str
        ``sentinel-2-l2a``, ``landsat-c2-l2``, ``gaofen-1-ard``, ``sentinel-1-rtc``.
    orbits : tuple of Orbit
        Who passes when; those of other sensors are ignored.
    cloudiness : float
        Mean cloud cover [1], in [0, 1).
    haziness : float
        Share of passes with a veil of haze that no quality layer shows, in [0, 1].
    variant : {"a", "b", "c"}
        Physics of point spread, atmosphere and mixing.
    baseline : {"with-offset", "without-offset", "mixed"}
        Sentinel-2 processing baselines.
    phase : mapping of str to float
        Per sensor, position of pixel edges modulo the pixel size [m]. Landsat's default is 15,
        that of the others 0.
    radar_spacing : float
        Pixel size of Sentinel-1 [m].
    atmosphere : float
        Factor on the errors of atmospheric correction, adjacency and haze; 0 turns them off.
    shift_mean, shift_sd : float
        Misregistration of a date along x and along y [m].
    processing_bias : float
        Factor on a bias of Sentinel-2's short-wave infrared that changes by date, as between
        Landsat Collection 1 and early L2A; 0, the default, is none.
    change : bool
        False keeps the ground of the first day for all dates (no growth, rain or harvest).
    effects : tuple of {"veil", "dark-target", "terrain", "cloud-edge", "water"}
        Effects that the image itself reveals; none by default, so that scenes are those of
        earlier measurements. `EFFECTS` has them all.
    double_cropping : float
        Share of the fields that bear winter wheat and then maize each year, in place of one crop
        of the rotation, in [0, 1]; none by default.
    relief : float
        Factor on the height of the hills, for the effect ``"terrain"``; 1 is rolling lowland.
    metadata : Metadata
        Dialect of the STAC items.
    """

    seed: int = 0
    start: str = "2022-05-01"
    end: str = "2022-09-30"
    center: tuple[float, float] = (501_600.0, 5_629_200.0)
    size: tuple[float, float] = (3000.0, 3000.0)
    crs: str = "EPSG:32631"
    sensors: tuple[str, ...] = (_S2, _LANDSAT)
    orbits: tuple[Orbit, ...] = DEFAULT_ORBITS
    cloudiness: float = 0.35
    haziness: float = 0.1
    variant: Variant = "a"
    baseline: BaselinePolicy = "with-offset"
    phase: Mapping[str, float] = field(default_factory=dict)
    radar_spacing: float = 10.0
    atmosphere: float = 1.0
    shift_mean: float = 3.0
    shift_sd: float = 5.0
    processing_bias: float = 0.0
    change: bool = True
    effects: tuple[Effect, ...] = ()
    relief: float = 1.0
    double_cropping: float = 0.0
    metadata: Metadata = Metadata()

    def __post_init__(self) -> None:
        _require_metres(self.crs)
        if min(self.size) <= 0:
            raise GridError(f"size {self.size} m holds no pixel", cure="give positive metres")
        for name in ("cloudiness", "haziness"):
            if not 0 <= getattr(self, name) < 1:
                raise RadiometryError(f"{name} {getattr(self, name)} is outside [0, 1)")
        if not 0 <= self.double_cropping <= 1:
            raise RadiometryError(f"double_cropping {self.double_cropping} is outside [0, 1]")
        _require_effects(self.effects)
        if not 0 <= self.relief < np.inf:
            raise GridError(
                "is no factor on heights",
                argument="relief",
                value=self.relief,
                cure="give 0 or more",
            )
        start, end = (_parse_day(text) for text in (self.start, self.end))
        if end < start:
            raise TimeAxisError(f"the period ends ({self.end}) before it starts ({self.start})")
        known = {orbit.sensor for orbit in self.orbits}
        missing = [name for name in self.sensors if name not in known]
        if missing:
            raise UnknownSensorError(
                f"no orbit for {missing}", cure=f"orbits are given for {sorted(known)}"
            )

    def phase_of(self, sensor: str) -> float:
        """Position of a sensor's pixel edges modulo its pixel size [m]."""
        return float(self.phase.get(sensor, 15.0 if sensor.startswith("landsat") else 0.0))

    def window(self, sensor: str, step: float) -> Window:
        """Return the grid of a sensor's assets with this pixel size.

        Edges are snapped outwards to a common multiple of all pixel sizes of the sensor, so that
        its 10 m and 20 m grids cover the same ground.
        """
        unit = 60.0 if sensor == _S2 else step
        phase = self.phase_of(sensor)
        west, east = (self.center[0] + sign * self.size[0] / 2 for sign in (-1, 1))
        south, north = (self.center[1] + sign * self.size[1] / 2 for sign in (-1, 1))
        left, bottom = (np.floor((edge - phase) / unit) * unit + phase for edge in (west, south))
        right, top = (np.ceil((edge - phase) / unit) * unit + phase for edge in (east, north))
        return Window(
            left=float(left),
            top=float(top),
            step=step,
            width=round((right - left) / step),
            height=round((top - bottom) / step),
        )

    def passes(self) -> list[Pass]:
        """Return all passes of the chosen sensors, in order of time."""
        first, last = np.datetime64(self.start, "D"), np.datetime64(self.end, "D")
        found = [
            Pass(orbit=orbit, time=day + np.timedelta64(round(orbit.hour * 3600), "s"))
            for orbit in self.orbits
            if orbit.sensor in self.sensors
            for day in _days(orbit, first, last)
        ]
        return sorted(found, key=lambda item: (item.time, item.orbit.platform))

    def baseline_of(self, acquisition: Pass) -> str:
        """Return the Sentinel-2 processing baseline of a pass."""
        if self.baseline == "mixed":
            names = ("02.14", "03.01", "04.00", "05.10")
            return names[int(4 * draw(self.seed, "baseline", *acquisition.key))]
        return "05.10" if self.baseline == "with-offset" else "02.14"


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One acquisition: an orbit and the moment [datetime64, s, UTC]."""

    orbit: Orbit
    time: np.datetime64

    @property
    def day(self) -> int:
        """Days since 1970-01-01."""
        return int(self.time.astype("datetime64[D]").astype(int))

    @property
    def key(self) -> tuple[int, int, int]:
        """Integers that make the draws of this pass its own."""
        return (self.day, name_key(self.orbit.platform), self.orbit.relative_orbit)


def _require_effects(effects: tuple[str, ...]) -> None:
    for name in effects:
        if name not in EFFECTS:
            raise RadiometryError(
                "is no effect", argument="effects", value=name, cure=suggest(name, EFFECTS)
            )


@lru_cache(maxsize=16)
def _require_metres(crs: str) -> None:
    from pyproj import CRS

    parsed = CRS.from_user_input(crs)
    if not parsed.is_projected or parsed.axis_info[0].unit_conversion_factor != 1.0:
        raise GridError(f"{crs} is not in metres", cure="choose a projected CRS such as EPSG:32631")


def _days(orbit: Orbit, first: np.datetime64, last: np.datetime64) -> list[np.datetime64]:
    origin = np.datetime64(orbit.first, "D")
    lag = int((origin - first).astype(int)) % orbit.repeat
    start = first + np.timedelta64(lag, "D")
    return list(np.arange(start, last + np.timedelta64(1, "D"), np.timedelta64(orbit.repeat, "D")))


def _parse_day(text: str) -> np.datetime64:
    try:
        day = np.datetime64(text, "D")
    except ValueError as error:
        raise TimeAxisError(f"{text!r} is no date ({error})", cure="write YYYY-MM-DD") from error
    if np.isnat(day):
        raise TimeAxisError(f"{text!r} is no date", cure="write YYYY-MM-DD")
    return day
