"""Pixels against the radiometric contract: whether what a cube claims shows in its values.

Metadata alone cannot tell whether a catalogue shifted its pixels. The thresholds below are set
wide: a finding means "look at this item", and the message says what would settle it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, Step, read_contract
from xharmonize.cube.door import at_door
from xharmonize.cube.masks import remove
from xharmonize.errors import ContractError
from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import UNKNOWN, Flag, Sensor
from xharmonize.types import AnyArray, Float64Array

Verdict: TypeAlias = Literal[
    "ok",
    "offset missed",
    "offset applied twice",
    "looks like digital numbers",
    "looks like reflectance",
    "Collection 2 read as Collection 1",
    "Collection 1 read as Collection 2",
    "saturated",
    "all masked",
]
"""What the pixels of a time step say."""

COLUMNS = (
    "time",
    "item_id",
    "sensor",
    "platform",
    "processing_baseline",
    "verdict",
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
_LEAST = 50  # valid samples of a band below which its quantiles say nothing


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What was found in one time step; arrays are (band,)."""

    step: Step
    bands: tuple[str, ...]
    dark: Float64Array
    median: Float64Array
    valid: Float64Array
    saturated: Float64Array
    is_integer: bool

    @property
    def sensor(self) -> Sensor | None:
        return None if self.step.sensor == UNKNOWN else get_sensor(self.step.sensor)

    def numbers(self, values: Float64Array) -> Float64Array:
        """Return reflectance or DN as DN."""
        if not self.step.is_decoded:
            return values
        scale = np.array([self.step.scale[band] for band in self.bands])
        offset = np.array([self.step.offset[band] for band in self.bands])
        numbers: Float64Array = (values - offset) / scale
        return numbers

    def reflectance(self, values: Float64Array) -> Float64Array:
        """Return reflectance or DN as the reflectance that the contract claims."""
        if self.step.is_decoded:
            return values
        scale = np.array([self.step.scale[band] for band in self.bands])
        offset = np.array([self.step.offset[band] for band in self.bands])
        reflectance: Float64Array = values * scale + offset
        return reflectance


def check_radiometry(cube: xr.DataArray | xr.Dataset, *, samples: int = 4096) -> pd.DataFrame:
    """Compare the pixels of a cube with its contract; computes.

    Of each time step, at most four Dask blocks spread over the image are read, and of these
    regularly spaced pixels.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] or digital numbers, with their contract. Where there is a ``qa`` layer,
        clouds are left out; without it, haze can look like a missed offset.
    samples : int
        Pixels looked at per time step and band.

    Returns
    -------
    pandas.DataFrame
        One row per time step and finding; a step without one has the row ``verdict == "ok"``.
        `dark` and `median` are of the band named in `band`, as the values of the cube; `valid` is
        its share of valid pixels [1], `saturated` the largest share of all bands [1]. `message`
        says what to do.

        - *offset missed*: the contract says no offset, and the darkest band's 1 % quantile is near
          the 1000 DN that Sentinel-2 adds since baseline 04.00;
        - *offset applied twice*: the quantile is far below 0, for which 1000 DN stand;
        - *looks like digital numbers*, *looks like reflectance*: the scale was not applied, or is
          applied twice;
        - *Collection 2 read as Collection 1* (or the reverse): Landsat DN outside the range of the
          collection;
        - *saturated*: more than 1 % of a band at the end of its range;
        - *all masked*: no valid pixel in the sample.

    Raises
    ------
    ContractError
        If the cube does not say what its numbers mean, or `samples` is not positive.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> list(xh.check_radiometry(example_cube()).verdict)
    ['ok', 'ok', 'ok']
    """
    cube = at_door(cube)
    if samples < 1:
        raise ContractError(f"samples={samples}; give the number of pixels per step and band")
    array = cube if isinstance(cube, xr.DataArray) else _cloudless(cube)
    steps = read_contract(array)
    array = array.transpose("time", "band", "y", "x")
    bands = tuple(str(name) for name in array["band"].values)
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
        rows.extend(_row(time, sample, *finding) for finding in _findings(sample))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cloudless(cube: xr.Dataset) -> xr.DataArray:
    """Leave out clouds where the cube knows them: under haze the darkest pixels are bright."""
    if REFLECTANCE not in cube:
        raise ContractError(
            f"the Dataset has no 'reflectance'; it has {sorted(map(str, cube.data_vars))}"
        )
    if "qa" not in cube:
        return cube[REFLECTANCE]
    return remove(cube[REFLECTANCE], (cube["qa"] & np.uint16(_CLOUDY)) != 0)


def _findings(sample: _Sample) -> Iterator[tuple[Verdict, int, str]]:
    """Verdict, number of the band it was seen in, and message."""
    known = np.flatnonzero(np.isfinite(sample.dark))
    if not known.size:
        if (sample.valid > 0).any():
            yield "ok", 0, "too few valid pixels to tell"
        else:
            yield "all masked", 0, "no valid pixel in the sample; nothing could be checked"
        return
    found = list(_contradictions(sample, int(known[np.argmin(sample.dark[known])])))
    worst = int(np.argmax(sample.saturated))
    if not found and sample.saturated[worst] > MOST_SATURATED:
        share = f"{sample.saturated[worst]:.1%} of {sample.bands[worst]} is saturated"
        found.append(("saturated", worst, f"{share}; mask it with the flag 'saturated'"))
    yield from found or [("ok", int(known[np.argmin(sample.dark[known])]), "")]


def _contradictions(sample: _Sample, darkest: int) -> Iterator[tuple[Verdict, int, str]]:
    """Compare the darkest band with what sensor and contract say; the first that fits."""
    sensor, step, band = sample.sensor, sample.step, sample.bands[darkest]
    dark, median = sample.dark[darkest], float(np.nanmax(sample.median))
    number = float(sample.numbers(sample.dark)[darkest])
    claimed = float(sample.reflectance(sample.dark)[darkest])
    settle = "settle it with radiometry= of open_stac, or xh.describe"
    if sensor is not None and sensor.level not in ("TOA", "SR", "NBAR"):
        return
    collection2 = get_sensor("landsat-c2-l2").radiometry
    if step.sensor == "landsat-c1-sr" and (
        collection2.valid_min <= number <= collection2.valid_max
    ):
        yield (
            "Collection 2 read as Collection 1",
            darkest,
            f"the darkest DN of {band} is {number:.0f}, where Collection 2 begins; {settle}",
        )
    elif step.sensor == "landsat-c2-l2" and number < 0.9 * collection2.valid_min:
        yield (
            "Collection 1 read as Collection 2",
            darkest,
            f"the darkest DN of {band} is {number:.0f}, Collection 2 begins at "
            f"{collection2.valid_min} (or its offset was taken off twice); {settle}",
        )
    elif float(np.nanmax(sample.reflectance(sample.median))) > TOO_BRIGHT:
        yield (
            "looks like digital numbers",
            darkest,
            f"the median is {median:g}: a scale was not applied; {settle}",
        )
    elif not step.is_decoded and not sample.is_integer and abs(median) < TOO_BRIGHT:
        yield (
            "looks like reflectance",
            darkest,
            f"the median is {median:g} although scale and offset are said not to be applied; "
            "settle it with xh.describe(cube, is_decoded=True, ...)",
        )
    elif sensor is not None:
        yield from _offset(sample, sensor, darkest, dark, claimed, settle)


def _offset(
    sample: _Sample, sensor: Sensor, darkest: int, dark: float, claimed: float, settle: str
) -> Iterator[tuple[Verdict, int, str]]:
    """Look for the offset that newer baselines of the product have."""
    offsets = [offset for _, offset in sensor.radiometry.baseline_offsets]
    if not offsets:
        return
    band, shift = sample.bands[darkest], abs(min(offsets))
    stated = sample.step.offset[band]
    if not stated < 0 and MISSED[0] * shift <= claimed <= MISSED[1] * shift:
        yield (
            "offset missed",
            darkest,
            f"the contract says no offset, and the darkest {DARK_QUANTILE:.0%} of {band} is "
            f"{dark:g}, as if {shift:g} were still in the pixels; {settle}",
        )
    elif claimed < (TWICE - 1) * shift:
        yield (
            "offset applied twice",
            darkest,
            f"the darkest {DARK_QUANTILE:.0%} of {band} is reflectance {claimed:.3f}: an "
            f"offset was taken off that the pixels do not hold (contract: {stated:g}); {settle}",
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
    """Dark quantile, median, valid share and saturated share: (time, band, 4)."""
    missing = np.full((len(steps), len(bands)), np.nan)
    ceiling = np.full((len(steps), len(bands)), np.inf)
    for t, step in enumerate(steps):
        for b, band in enumerate(bands):
            missing[t, b] = np.nan if step.is_decoded else step.nodata[band]
            ceiling[t, b] = _ceiling(step, band)
    taken = _thin_out(da.asarray(array.data), samples)
    limits = da.from_array(np.stack([missing, ceiling], -1), chunks=(*taken.chunks[:2], -1))
    table = da.blockwise(
        _statistics_block,
        "tbk",
        taken,
        "tbn",
        limits,
        "tbl",
        new_axes={"k": 4},
        concatenate=True,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
        token="check-radiometry",
    )
    result: AnyArray = table.compute()
    return result


def _ceiling(step: Step, band: str) -> float:
    """Value of the cube from which on a pixel is saturated."""
    if step.sensor == UNKNOWN:
        return float("inf")
    radiometry = get_sensor(step.sensor).radiometry
    if not step.is_decoded:
        return float(radiometry.valid_max)
    # Half a digital number of tolerance: the value was rounded to float32.
    return float((radiometry.valid_max - 0.5) * step.scale[band] + step.offset[band])


def _thin_out(data: da.Array, samples: int) -> da.Array:
    """Regularly spaced pixels of a few blocks: (time, band, sample)."""
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
    return da.concatenate(parts, axis=2).rechunk({2: -1})


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
