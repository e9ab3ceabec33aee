"""Check the pixels of a cube against its radiometric contract.

Metadata alone cannot tell whether a catalogue shifted its pixels. The thresholds below are
lenient: a finding means "inspect this item", and its message says how to resolve it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._progress import computing
from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, Step, read_contract
from xharmonize.cube.door import at_door
from xharmonize.cube.masks import remove
from xharmonize.errors import ContractError
from xharmonize.sensors import Names, get_sensor
from xharmonize.sensors.registry import numbered_alike
from xharmonize.sensors.spec import UNKNOWN, Flag, Sensor
from xharmonize.types import AnyArray, Float64Array

Verdict: TypeAlias = Literal[
    "ok",
    "offset missed",
    "offset applied twice",
    "looks like digital numbers",
    "looks like reflectance",
    "another collection",
    "saturated",
    "cannot tell",
    "all masked",
]
"""What the pixels of a time step say."""

Finding: TypeAlias = tuple[Verdict, int, str]
"""Verdict, number of the band it was seen in, and message."""

COLUMNS = (
    "time",
    "item_id",
    "sensor",
    "platform",
    "processing_baseline",
    "verdict",
    "is_contradiction",
    "band",
    "dark",
    "median",
    "valid",
    "saturated",
    "message",
)

DARK_QUANTILE = 0.01
"""Quantile [1] that stands for the darkest surfaces: water, shadow, dense vegetation."""

MISSED = (0.9, 1.3)
"""Dark quantile, in units of the product's offset, that says the offset is still in the pixels:
dark surfaces have DN 1000 to 1300 there, 0 to 300 in pixels without offset."""

VISIBLE = ("coastal", "blue", "green", "red")
"""Bands in which some surface is always dark. Soil, leaves and snow are bright in the others, where
a dark quantile of 0.1 is what a land surface has, offset or not."""

SYSTEMATIC, LEAST_ALIKE = 0.25, 2
"""Share and number of a baseline's dates without dark pixels from which it is no haze: metadata are
wrong for all items of a baseline alike, haze lies over single dates."""

TWICE = 0.5
"""Dark quantile, in units of the offset, below which pixels cannot hold the offset any more: legal
negative reflectance of Sentinel-2 seldom goes below -0.02, half the offset is -0.05."""

TOO_BRIGHT = 2.0
"""Reflectance [1] whose median no surface reaches; snow and cloud stay below 1.5."""

MOST_SATURATED = 0.01
"""Share [1] of valid pixels at the end of the range above which a step is reported."""

N_BLOCKS = 4
"""Dask blocks looked at per time step, spread over the image."""

_CLOUDY = Flag.CLOUD | Flag.CLOUD_ADJACENT | Flag.CIRRUS | Flag.CLOUD_PROBABLE
_SETTLE = "settle it with radiometry= of open_stac, or xh.describe"
_HARMLESS = ("ok", "saturated", "cannot tell", "all masked")
_LEAST = 50  # valid samples of a band below which its quantiles say nothing


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Pixel statistics of one time step; arrays are (band,)."""

    step: Step
    bands: tuple[str, ...]
    dark: Float64Array
    median: Float64Array
    valid: Float64Array
    saturated: Float64Array
    is_integer: bool

    @property
    def sensor(self) -> Sensor | None:
        return _sensor_of(self.step)

    @property
    def darkest_visible(self) -> int | None:
        """Number of the darkest visible band with enough valid pixels."""
        known = [
            b for b, name in enumerate(self.bands) if name in VISIBLE and np.isfinite(self.dark[b])
        ]
        return min(known, key=lambda b: float(self.dark[b]), default=None)

    @property
    def is_bright(self) -> bool | None:
        """Whether the pixels may still contain an offset: no visible band is darker than it.

        None if the pixels cannot tell, or the product has no offset.
        """
        band, shift = self.darkest_visible, self.shift
        if band is None or shift is None:
            return None
        claimed = float(self.reflectance(self.dark)[band])
        return not self.step.offset[self.bands[band]] < 0 and claimed >= MISSED[0] * shift

    @property
    def shift(self) -> float | None:
        """Size [1] of the offset in newer baselines of the product."""
        offsets = [] if self.sensor is None else self.sensor.radiometry.baseline_offsets
        return abs(min(offset for _, offset in offsets)) if offsets else None

    @property
    def no_visible_band(self) -> str:
        """Message where dark pixels say nothing."""
        return (
            f"cannot tell from {', '.join(self.bands)}, which are bright by nature: read one of "
            f"{', '.join(VISIBLE)} too"
        )

    def numbers(self, values: Float64Array) -> Float64Array:
        """Convert reflectance or DN to DN."""
        if not self.step.is_decoded:
            return values
        scale = np.array([self.step.scale[band] for band in self.bands])
        offset = np.array([self.step.offset[band] for band in self.bands])
        numbers: Float64Array = (values - offset) / scale
        return numbers

    def reflectance(self, values: Float64Array) -> Float64Array:
        """Convert reflectance or DN to reflectance, according to the contract."""
        if self.step.is_decoded:
            return values
        scale = np.array([self.step.scale[band] for band in self.bands])
        offset = np.array([self.step.offset[band] for band in self.bands])
        reflectance: Float64Array = values * scale + offset
        return reflectance


def check_radiometry(
    cube: xr.DataArray | xr.Dataset, *, samples: int = 4096, progress: bool | None = None
) -> pd.DataFrame:
    """Check the pixels of a cube against its radiometric contract; computes.

    Reads regularly spaced pixels from at most four Dask blocks per time step, spread over the
    image.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] or digital numbers, with their contract. If there is a ``qa`` layer,
        clouds are excluded; without it, haze can look like a missed offset.
    samples : int
        Number of pixels to sample per time step and band.
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).

    Returns
    -------
    pandas.DataFrame
        One row per time step and finding; a step without findings has one row with
        ``verdict == "ok"``. `is_contradiction` tells whether the finding contradicts the metadata.
        `dark` and `median` are statistics of the band in `band`, in units of the cube; `valid` is
        its fraction of valid pixels [1], `saturated` the largest saturated fraction of any band
        [1]. `message` says what to do.

        - *offset missed*: the contract has no offset, but the 1 % quantile of the darkest of
          coastal, blue, green and red is near the 1000 DN that Sentinel-2 adds since baseline
          04.00. A single date may be hazy, so this is a contradiction only if at least two dates,
          and a quarter of those with the same baseline, have no darker pixels;
        - *offset applied twice*: the quantile is far below 0, which 1000 DN represent;
        - *looks like digital numbers*, *looks like reflectance*: the scale was not applied, or
          was applied twice;
        - *another collection*: DN of another collection of the same constellation, such as
          Landsat Collection 2 read as Collection 1;
        - *saturated*: more than 1 % of the pixels of a band are at the end of its range;
        - *cannot tell*: no coastal, blue, green or red band; other bands are naturally bright;
        - *all masked*: no valid pixel in the sample.

    Raises
    ------
    ContractError
        If the cube has no radiometric contract, or `samples` is not positive.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> list(xh.check_radiometry(example_cube()).verdict)
    ['ok', 'ok', 'ok']
    """
    cube = at_door(cube)
    if samples < 1:
        raise ContractError(
            cure="give the number of pixels per step and band", argument="samples", value=samples
        )
    array = cube if isinstance(cube, xr.DataArray) else _cloudless(cube)
    steps = read_contract(array)
    array = array.transpose("time", "band", "y", "x")
    bands = tuple(str(name) for name in array["band"].values)
    with computing("Comparing pixels with metadata", progress):
        table = _statistics(array, steps, bands, samples)
    rows: list[tuple[Any, ...]] = []
    for time, step, values in zip(array["time"].values, steps, table):
        sample = _Sample(
            step=step,
            bands=bands,
            dark=values[:, 0],
            median=values[:, 1],
            valid=values[:, 2],
            saturated=values[:, 3],
            is_integer=np.issubdtype(array.dtype, np.integer),
        )
        rows.extend(
            (*_row(time, sample, *finding), sample.is_bright) for finding in _findings(sample)
        )
    found = pd.DataFrame(rows, columns=[*COLUMNS, "is_bright"])
    return _without_haze(found.drop(columns="is_bright"), found["is_bright"])


def _without_haze(table: pd.DataFrame, is_bright: pd.Series[Any]) -> pd.DataFrame:
    """Withdraw contradictions of single dates: a hazy one looks as if it still had its offset."""
    for _, dates in table[is_bright.notna()].groupby(["sensor", "processing_baseline"]):
        alike = dates.index[dates["verdict"] == "offset missed"]
        n_bright = int(is_bright[dates.index].sum())
        if not len(alike) or n_bright >= max(LEAST_ALIKE, SYSTEMATIC * len(dates)):
            continue
        table.loc[alike, "is_contradiction"] = False
        table.loc[alike, "message"] += (
            f"; it may be haze: no dark pixel on {n_bright} of {len(dates)} dates of the baseline"
        )
    return table


def summarize_check(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Summarise a table of `check_radiometry`: one row per sensor and verdict."""
    return [
        {
            "sensor": str(sensor),
            "pixels say": str(verdict),
            "dates": len(found),
            "darkest 1 % (median)": float(found["dark"].dropna().median()),
        }
        for (sensor, verdict), found in table.groupby(["sensor", "verdict"], sort=True)
    ]


def list_findings(table: pd.DataFrame) -> list[str]:
    """List the findings in a table of `check_radiometry`, contradiction or not.

    One line per date, contradictions first, and one line for all dates that cannot be checked.
    """
    wrong = table[~table["verdict"].isin(("ok", "all masked", "cannot tell"))]
    wrong = wrong.sort_values("is_contradiction", ascending=False, kind="stable")
    lines = [
        f"{item}: {verdict}: {message}"
        for item, verdict, message in zip(wrong["item_id"], wrong["verdict"], wrong["message"])
    ]
    untold = table.loc[table["verdict"] == "cannot tell", "message"].value_counts()
    return lines + [f"{n} date{'s' * (n != 1)}: {message}" for message, n in untold.items()]


def count_contradictions(table: pd.DataFrame) -> int:
    """Count the dates in a table of `check_radiometry` that contradict their metadata."""
    return int(table["is_contradiction"].sum())


def conclude_check(table: pd.DataFrame) -> str:
    """Sum up a table of `check_radiometry` in one sentence; empty if there are no findings."""
    n = count_contradictions(table)
    if n:
        return f"the pixels of {n} date{'s' * (n != 1)} contradict the metadata"
    return "no date contradicts its metadata for certain" if list_findings(table) else ""


def _cloudless(cube: xr.Dataset) -> xr.DataArray:
    """Mask clouds if the cube has quality flags: under haze even the darkest pixels are bright."""
    if REFLECTANCE not in cube:
        raise ContractError(
            "the Dataset has no 'reflectance'", cure=f"it has {sorted(map(str, cube.data_vars))}"
        )
    if "qa" not in cube:
        return cube[REFLECTANCE]
    return remove(cube[REFLECTANCE], (cube["qa"] & np.uint16(_CLOUDY)) != 0)


def _findings(sample: _Sample) -> Iterator[Finding]:
    """Yield verdict, number of the band it was found in, and message."""
    known = np.flatnonzero(np.isfinite(sample.dark))
    if not known.size:
        if (sample.valid > 0).any():
            yield "ok", 0, "too few valid pixels to tell"
        else:
            yield "all masked", 0, "no valid pixel in the sample; nothing could be checked"
        return
    darkest = int(known[np.argmin(sample.dark[known])])
    found = list(_contradictions(sample, darkest))
    worst = int(np.argmax(sample.saturated))
    if not found and sample.saturated[worst] > MOST_SATURATED:
        share = f"{sample.saturated[worst]:.1%} of {sample.bands[worst]} is saturated"
        found.append(("saturated", worst, f"{share}; mask it with the flag 'saturated'"))
    yield from found or [("ok", darkest, "")]


def _contradictions(sample: _Sample, darkest: int) -> Iterator[Finding]:
    """Compare dark pixels with sensor and contract; return the first matching finding.

    Values darker than any surface are judged by the darkest band of all; values too bright to be
    the darkest surface by the darkest visible band.
    """
    if sample.sensor is not None and not sample.sensor.is_reflectance:
        return
    for look in (_collection, _unit, _offset):
        found = list(look(sample, darkest))
        if found:
            yield from found
            return


def _collection(sample: _Sample, darkest: int) -> Iterator[Finding]:
    """Detect numbers of another collection of the same constellation, such as Landsat's."""
    own, number, band = sample.sensor, sample.numbers(sample.dark), sample.bands[darkest]
    if own is None:
        return
    for other in numbered_alike(own).values():
        here, there = (s.radiometry for s in (own, other))
        read = f"Collection {other.collection_number} read as Collection {own.collection_number}"
        if here.valid_min > there.valid_min and number[darkest] < 0.9 * here.valid_min:
            yield (
                "another collection",
                darkest,
                f"{read}: the darkest DN of {band} is {number[darkest]:.0f}, {own.name} begins at "
                f"{here.valid_min} (or its offset was taken off twice); {_SETTLE}",
            )
        is_there = there.valid_min <= number[darkest] <= there.valid_max
        if here.valid_min < there.valid_min and is_there:
            visible = sample.darkest_visible
            if visible is None:
                yield "cannot tell", darkest, sample.no_visible_band
                return
            yield (
                "another collection",
                visible,
                f"{read}: the darkest DN of {sample.bands[visible]} is {number[visible]:.0f}, "
                f"where {other.name} begins; {_SETTLE}",
            )


def _unit(sample: _Sample, darkest: int) -> Iterator[Finding]:
    """Detect a scale that was not applied, or was applied twice."""
    median = float(np.nanmax(sample.median))
    if float(np.nanmax(sample.reflectance(sample.median))) > TOO_BRIGHT:
        yield (
            "looks like digital numbers",
            darkest,
            f"the median is {median:g}: a scale was not applied; {_SETTLE}",
        )
    elif not sample.step.is_decoded and not sample.is_integer and abs(median) < TOO_BRIGHT:
        yield (
            "looks like reflectance",
            darkest,
            f"the median is {median:g} although scale and offset are said not to be applied; "
            "settle it with xh.describe(cube, is_decoded=True, ...)",
        )


def _offset(sample: _Sample, darkest: int) -> Iterator[Finding]:
    """Detect the offset of newer baselines of the product."""
    shift, visible = sample.shift, sample.darkest_visible
    if shift is None:
        return
    claimed = sample.reflectance(sample.dark)
    stated = [sample.step.offset[band] for band in sample.bands]
    if claimed[darkest] < (TWICE - 1) * shift:
        yield (
            "offset applied twice",
            darkest,
            f"the darkest {DARK_QUANTILE:.0%} of {sample.bands[darkest]} is reflectance "
            f"{claimed[darkest]:.3f}: an offset was taken off that the pixels do not hold "
            f"(contract: {stated[darkest]:g}); {_SETTLE}",
        )
    elif visible is None:
        yield "cannot tell", darkest, sample.no_visible_band
    elif sample.is_bright and claimed[visible] <= MISSED[1] * shift:
        yield (
            "offset missed",
            visible,
            f"the contract says no offset, and the darkest {DARK_QUANTILE:.0%} of "
            f"{sample.bands[visible]} is {sample.dark[visible]:g}, as if {shift:g} were still in "
            f"the pixels; {_SETTLE}",
        )


def _row(time: Any, sample: _Sample, verdict: str, band: int, message: str) -> tuple[Any, ...]:
    step = sample.step
    return (
        time,
        step.item_id,
        step.sensor,
        step.platform,
        step.processing_baseline,
        verdict,
        verdict not in _HARMLESS,
        sample.bands[band] if sample.bands else "",
        float(sample.dark[band]),
        float(sample.median[band]),
        float(sample.valid[band]),
        float(sample.saturated.max()),
        message,
    )


def _statistics(
    array: xr.DataArray, steps: Sequence[Step], bands: Sequence[str], samples: int
) -> AnyArray:
    """Dark quantile, median, valid fraction and saturated fraction: (time, band, 4)."""
    missing = np.full((len(steps), len(bands)), np.nan)
    ceiling = np.full((len(steps), len(bands)), np.inf)
    for t, step in enumerate(steps):
        for b, band in enumerate(bands):
            missing[t, b] = np.nan if step.is_decoded else step.nodata[band]
            ceiling[t, b] = _ceiling(step, band)
    table = map_blocks(
        _statistics_block,
        "tbn,tbl->tbk",
        _thin_out(da.asarray(array.data), samples),
        np.stack([missing, ceiling], -1),
        new={"k": 4},
        dtype=np.float64,
        name="check-radiometry",
    )
    result: AnyArray = table.compute()
    return result


def _sensor_of(step: Step) -> Sensor | None:
    """Sensor of a step; None if it is unknown, or the step was merged from several sensors."""
    names = Names.of(step.sensor)
    return None if UNKNOWN in names or len(names) > 1 else get_sensor(step.sensor)


def _ceiling(step: Step, band: str) -> float:
    """Value of the cube at and above which a pixel is saturated."""
    sensor = _sensor_of(step)
    if sensor is None:
        return float("inf")
    radiometry = sensor.radiometry_of(band)
    if not step.is_decoded:
        return float(radiometry.valid_max)
    # Half a digital number of tolerance: the value was rounded to float32.
    return float((radiometry.valid_max - 0.5) * step.scale[band] + step.offset[band])


def _thin_out(data: da.Array, samples: int) -> da.Array:
    """Sample regularly spaced pixels of a few blocks: (time, band, sample)."""
    n_y, n_x = data.numblocks[2:]
    picked = np.unique(np.linspace(0, n_y * n_x - 1, min(N_BLOCKS, n_y * n_x)).round().astype(int))
    if len(picked) < n_y * n_x:  # the corners of the image are where swaths end
        picked = np.unique(np.linspace(0, n_y * n_x - 1, N_BLOCKS + 2).round().astype(int)[1:-1])
    parts = []
    for number in picked:
        block = data.blocks[:, :, number // n_x, number % n_x]
        stride = max(1, int(np.sqrt(block.shape[2] * block.shape[3] * len(picked) / samples)))
        thin = block[:, :, ::stride, ::stride]
        parts.append(thin.reshape(*thin.shape[:2], -1))
    joined: da.Array = da.concatenate(parts, axis=2).rechunk({2: -1})
    return joined


def _statistics_block(values: AnyArray, limits: Float64Array) -> Float64Array:
    out = np.full((*values.shape[:2], 4), np.nan)
    for t, b in np.ndindex(values.shape[:2]):
        missing, ceiling = limits[t, b]
        found = values[t, b].astype(np.float64)
        found = found[np.isfinite(found) & (found != missing)]
        out[t, b, 2] = found.size / max(1, values.shape[2])
        out[t, b, 3] = np.mean(found >= ceiling) if found.size else 0.0
        if found.size >= min(_LEAST, values.shape[2]):
            out[t, b, :2] = np.quantile(found, [DARK_QUANTILE, 0.5])
    return out
