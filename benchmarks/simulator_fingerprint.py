"""Fingerprint of the scene simulator: its statistics beside those of real observations.

Run ``python benchmarks/simulator_fingerprint.py [--effects]`` for the tables of
``docs/explanation/simulator.md``; ``--effects`` turns on all that the image itself reveals, in
scenes and on the same day (spectra have none). Real numbers are computed from the folder that
``XHARMONIZE_DATA`` names (by default ``../shared/data``) and left out where it is absent.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from xharmonize.sensors import get_sensor
from xharmonize.simulate.config import EFFECTS, Orbit, Pass, Simulation
from xharmonize.simulate.imaging import anisotropy, pass_angles
from xharmonize.simulate.landscape import Cover, render_landscape
from xharmonize.simulate.noise import Window
from xharmonize.simulate.passes import (
    endmember_table,
    mixed_reflectance,
    prepare,
    render_optical,
    render_tile_ground,
    scale_and_offset,
    spectral_bands,
)
from xharmonize.simulate.surface import endmember_shares
from xharmonize.simulate.vegetation import ENDMEMBERS, ground_on

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
NDVI_EDGES = np.array([-1, 0, 0.2, 0.4, 0.6, 0.75, 0.85, 1.01])
BLUE_EDGES = np.array([0, 0.05, 0.1, 0.15, 0.25, 2.0])
REAL_PAIRS = (
    ("20180207", "20180208"), ("20180223", "20180225"), ("20180701", "20180630"),
    ("20180717", "20180715"), ("20180724", "20180723"), ("20181005", "20181006"),
)  # fmt: skip


def data_folder() -> Path | None:
    named = os.environ.get("XHARMONIZE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


# --- spectra: ordinary least squares Sentinel-2A -> OLI --------------------------------------


def line(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """Slope and offset of weighted least squares."""
    w = np.ones(len(x)) if weight is None else weight
    mx, my = np.average(x, weights=w), np.average(y, weights=w)
    slope = np.sum(w * (x - mx) * (y - my)) / np.sum(w * (x - mx) ** 2)
    return float(slope), float(my - slope * mx)


def strata(x: np.ndarray) -> np.ndarray:
    """Class of each spectrum (spectrum, band) by NDVI and blue reflectance."""
    ndvi = (x[:, 3] - x[:, 2]) / np.maximum(x[:, 3] + x[:, 2], 1e-4)
    greenness = np.clip(np.digitize(ndvi, NDVI_EDGES) - 1, 0, 6)
    return 5 * greenness + np.clip(np.digitize(x[:, 0], BLUE_EDGES) - 1, 0, 4)


def simulated_spectra(variant: str, n_days: int = 9, size: int = 150) -> tuple[np.ndarray, ...]:
    """Reflectance in MSI (S2A) and OLI (L8) of cells 100 m apart, over a year."""
    window = Window(left=480_000, top=5_640_000, step=100.0, width=size, height=size)
    landscape = render_landscape(0, window)
    tables = [
        endmember_table(spectral_bands(get_sensor(sensor), platform, BANDS))
        for sensor, platform in (("sentinel-2-l2a", "sentinel-2a"), ("landsat-c2-l2", "landsat-8"))
    ]
    found: list[list[np.ndarray]] = [[], []]
    for day in np.linspace(19_000, 19_325, n_days).astype(int):
        ground = ground_on(0, int(day), 10.8, landscape.unit_key, landscape.unit_cover)
        shares = endmember_shares(landscape, ground)
        for table, rows in zip(tables, found):
            rows.append(mixed_reflectance(shares, table, variant).T.astype(np.float64))
    return tuple(np.concatenate(rows) for rows in found)


def real_spectra() -> tuple[np.ndarray, np.ndarray] | None:
    folder = data_folder()
    if folder is None:
        return None
    with np.load(folder / "matched_spectra_l8_s2a.npz") as file:
        msi = file["sentinel2a"][:, [1, 2, 3, 8, 9, 10]] / 1e4
        return msi, file["landsat8"][:, 1:] / 1e4


def stratum_weights(x: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Weights that give simulated spectra the measured mix of NDVI and blue reflectance."""
    counts, mine = np.bincount(strata(measured), minlength=35), strata(x)
    there = np.bincount(mine, minlength=35)
    weight: np.ndarray = np.where(there >= 20, counts / np.maximum(there, 1), 0.0)[mine]
    return weight


def spectra_table(variant: str, **size: int) -> list[str]:
    x, y = simulated_spectra(variant, **size)
    real = real_spectra()
    weight = None if real is None else stratum_weights(x, real[0])
    lines = []
    for i, band in enumerate(BANDS):
        plain = line(x[:, i], y[:, i])
        text = f"| {band} | {plain[0]:.4f}, {plain[1]:+.4f} "
        if real is not None and weight is not None:
            like = line(x[:, i], y[:, i], weight)
            truth = line(real[0][:, i], real[1][:, i])
            inside = abs(like[0] - truth[0]) <= 0.005 and abs(like[1] - truth[1]) <= 0.001
            text += f"| {like[0]:.4f}, {like[1]:+.4f} | {truth[0]:.4f}, {truth[1]:+.4f} "
            text += f"| {'yes' if inside else 'NO'} "
        lines.append(text + "|")
    return lines


# --- scenes: pairs on Landsat's grid ---------------------------------------------------------


def area_mean(image: np.ndarray, source: Window, target: Window) -> np.ndarray:
    """Mean over the area of target pixels."""

    def weights(first: float, step: float, n: int, origin: float, size: int) -> np.ndarray:
        low = origin + target.step * np.arange(size)[:, None]
        cell = first + step * np.arange(n)[None, :]
        part = np.minimum(low + target.step, cell + step) - np.maximum(low, cell)
        part = np.clip(part, 0, None)
        return part / part.sum(axis=1, keepdims=True)

    down = weights(-source.top, source.step, source.height, -target.top, target.height)
    across = weights(source.left, source.step, source.width, target.left, target.width)
    return down @ image @ across.T


def pair_statistics(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Correlation, slope and mean difference of target over source."""
    r = float(np.corrcoef(x, y)[0, 1])
    return r, r * float(y.std() / x.std()), float(y.mean() - x.mean())


def reflectance(simulation: Simulation, acquisition: Pass, ground: object) -> dict[str, tuple]:
    scene = prepare(simulation, acquisition)
    scale, offset = scale_and_offset(scene)
    assets = render_optical(scene, ground)  # type: ignore[arg-type]
    return {key: (assets[key][0], assets[key][1] * scale + offset) for key in BANDS}


def a_pass(simulation: Simulation, sensor: str, index: int, day: str) -> Pass:
    orbits = [orbit for orbit in simulation.orbits if orbit.sensor == sensor]
    orbit: Orbit = orbits[index % len(orbits)]
    stamp = np.datetime64(day, "D") + np.timedelta64(round(orbit.hour * 3600), "s")
    return Pass(orbit=orbit, time=stamp)


def on_landsat(simulation: Simulation, ground: object, s2: Pass, l8: Pass) -> np.ndarray:
    """Both sensors on Landsat's grid: (band, 2, pixel), the 21 x 21 pixels in the middle."""
    fine, coarse = (reflectance(simulation, p, ground) for p in (s2, l8))
    rows = []
    for band in BANDS:
        full, image = coarse[band]
        inner = Window(
            left=full.left + 5 * full.step, top=full.top - 5 * full.step, step=full.step,
            width=21, height=21,
        )  # fmt: skip
        mean = area_mean(fine[band][1], fine[band][0], inner)
        rows.append([mean.ravel(), image[5:26, 5:26].ravel()])
    return np.array(rows)


def simulated_pairs(variant: str, n_places: int, effects: tuple[str, ...] = ()) -> np.ndarray:
    """Statistics (place, date, band, 3) of clear pairs one or two days apart."""
    simulation = Simulation(variant=variant, cloudiness=0.0, effects=effects)
    found = []
    for place in range(400):
        ground = render_tile_ground(simulation, 470 + 3 * place, 5800 + 7 * place)
        share = np.bincount(ground.fine.cover.ravel(), minlength=10) / ground.fine.cover.size
        wood = share[[Cover.DECIDUOUS, Cover.CONIFER]].sum()
        if share[Cover.BUILT] > 0.01 or wood > 0.05 or share[Cover.WATER] > 0.01:
            continue
        dates = []
        for i, (landsat, sentinel) in enumerate(REAL_PAIRS):
            days = [f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in (sentinel, landsat)]
            s2 = a_pass(simulation, "sentinel-2-l2a", i + place, days[0])
            l8 = a_pass(simulation, "landsat-c2-l2", i // 2 + place, days[1])
            x = on_landsat(simulation, ground, s2, l8)
            dates.append([pair_statistics(*band) for band in x])
        found.append(dates)
        if len(found) == n_places:
            break
    return np.array(found)


def real_pairs() -> np.ndarray | None:
    """Statistics (1, date, band, 3) of the clear pairs of flanders-2018."""
    folder = data_folder()
    if folder is None:
        return None
    import rasterio

    def read(path: Path) -> tuple[Window, np.ndarray]:
        with rasterio.open(path) as file:
            t = file.transform
            window = Window(left=t.c, top=t.f, step=t.a, width=file.width, height=file.height)
            return window, file.read(1)

    dates = []
    for landsat, sentinel in REAL_PAIRS:
        l8 = sorted((folder / "flanders-2018/landsat-8-c1-sr").glob(f"LC08_{landsat}_*"))[0]
        s2 = sorted((folder / "flanders-2018/sentinel-2-l2a").glob(f"S2_31U_{sentinel}*"))[0]
        grid, qa = read(l8 / "pixel_qa.tif")
        source, scl = read(s2 / "scl.tif")
        cloudy = area_mean(np.isin(scl, (0, 1, 3, 8, 9, 10, 11)).astype(float), source, grid)
        clear = np.isin(qa, (322, 324)) & (cloudy == 0)
        row = []
        for band in BANDS:
            source, image = read(s2 / f"{band}.tif")
            x = area_mean(image / 1e4, source, grid)[clear]
            row.append(pair_statistics(x, read(l8 / f"{band}.tif")[1][clear] / 1e4))
        dates.append(row)
    return np.array([dates])


def scene_table(variant: str, n_places: int, effects: tuple[str, ...] = ()) -> list[str]:
    mine, real = simulated_pairs(variant, n_places, effects), real_pairs()
    lines = []
    for k, name in enumerate(("correlation", "slope")):
        for i, band in enumerate(BANDS):
            low, mid, high = np.quantile(mine[..., i, k], (0.1, 0.5, 0.9))
            text = f"| {name} {band} | {mid:.3f} ({low:.3f} … {high:.3f}) "
            if real is not None:
                seen = real[..., i, k]
                inside = seen.min() <= mid <= seen.max()
                text += f"| {seen.min():.3f} … {seen.max():.3f} | {'yes' if inside else 'NO'} "
            lines.append(text + "|")
    spread = mine[..., 2].std(axis=1, ddof=1)
    for i, band in enumerate(BANDS):
        low, mid, high = np.quantile(spread[:, i], (0.1, 0.5, 0.9))
        text = f"| between dates {band} | {mid:.4f} ({low:.4f} … {high:.4f}) "
        if real is not None:
            sd = float(real[0, :, i, 2].std(ddof=1))
            # 90 % confidence limits of a standard deviation from six dates (chi-square, 5 dof)
            limits = sd * np.sqrt(5 / np.array([11.07, 1.145]))
            inside = limits[0] <= mid <= limits[1]
            text += f"| {sd:.4f} ({limits[0]:.4f} … {limits[1]:.4f}) | {'yes' if inside else 'NO'} "
        lines.append(text + "|")
    return lines


# --- one pixel on the same day ---------------------------------------------------------------


def simulated_same_day(
    variant: str, n_days: int, atmosphere: float, effects: tuple[str, ...] = ()
) -> np.ndarray:
    """SD over days of Sentinel-2 minus Landsat, per pixel: (pixel, band).

    Only pixels about as bright as that of the real series (woodland and its edges).

    As in HLS both are brought to nadir by the c-factor of the global mean surface.
    """
    simulation = Simulation(
        variant=variant, cloudiness=0.0, haziness=0.0, atmosphere=atmosphere, seed=3,
        effects=effects,
    )  # fmt: skip
    ground = render_tile_ground(simulation, 523, 5865)
    straw = ENDMEMBERS.index("dark_soil")
    days = np.datetime64("2022-03-01") + (np.arange(n_days) * 240 // n_days)
    differences, levels = [], []
    for i, day in enumerate(days):
        pair = [
            a_pass(simulation, name, i, str(day)) for name in ("sentinel-2-l2a", "landsat-c2-l2")
        ]
        x = on_landsat(simulation, ground, *pair)
        for j, acquisition in enumerate(pair):
            centers = prepare(simulation, acquisition).centers
            angles = pass_angles(acquisition, *simulation.center, simulation.crs)
            factor = anisotropy(angles, tuple(np.interp(np.arange(6), np.arange(6), _six(centers))))
            x[:, j] /= (1 + (factor[straw] - 1) / 0.8)[:, None]
        differences.append(x[:, 0] - x[:, 1])
        levels.append(x.mean(axis=1))
    level = np.mean(levels, axis=0)
    alike = (level[3] > 0.12) & (level[3] < 0.30) & (level[2] > 0.02) & (level[2] < 0.08)
    return np.array(differences).std(axis=0, ddof=1).T[alike]


def _six(centers: tuple[float, ...]) -> tuple[float, ...]:
    """Centres of the six common bands, of whichever sensor."""
    common = (490.0, 560.0, 660.0, 865.0, 1610.0, 2200.0)
    return tuple(min(centers, key=lambda c: abs(c - target)) for target in common)


def real_same_day() -> tuple[np.ndarray, np.ndarray, int] | None:
    """SD and robust SD of same-day Sentinel-2 minus Landsat at the pixel of series a."""
    folder = data_folder()
    if folder is None:
        return None
    import pandas as pd

    table = pd.read_csv(folder / "hls_pixel_series_a.csv").query("qa == 0")
    names = ["blue", "green", "red", "nir", "swir1", "swir2"]
    mean = {s: table[table.sensor == s].groupby("dates")[names].mean() for s in (2, 8)}
    days = mean[2].index.intersection(mean[8].index)
    e = (mean[2].loc[days] - mean[8].loc[days]).to_numpy() / 1e4
    robust = 1.4826 * np.median(np.abs(e - np.median(e, axis=0)), axis=0)
    return e.std(axis=0, ddof=1), robust, len(days)


def same_day_table(variant: str, n_days: int, effects: tuple[str, ...] = ()) -> list[str]:
    """HLS corrects both sensors with one processor and flags aerosol: half the error, no haze."""
    real, lines = real_same_day(), []
    for title, atmosphere in (("one processor", 0.5), ("two processors", 1.0)):
        mine = simulated_same_day(variant, n_days, atmosphere, effects)
        for i, band in enumerate(BANDS):
            low, mid, high = np.quantile(mine[:, i], (0.05, 0.5, 0.95))
            text = f"| same day, {title}, {band} | {mid:.4f} ({low:.4f} … {high:.4f}) "
            if real is not None:
                inside = low <= real[0][i] <= high
                text += f"| {real[0][i]:.4f} (robust {real[1][i]:.4f}) "
                text += f"| {'yes' if inside else 'NO'} "
            lines.append(text + "|")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", default="abc")
    parser.add_argument("--places", type=int, default=12)
    parser.add_argument("--days", type=int, default=38)
    parser.add_argument("--effects", action="store_true", help="all that the image reveals")
    options = parser.parse_args(arguments)
    effects = EFFECTS if options.effects else ()
    for variant in options.variants:
        print(f"\n### Variant {variant}\n")
        print("| band | all cells | cells weighted as measured | measured | inside |")
        print("|---|---|---|---|---|")
        print("\n".join(spectra_table(variant)))
        print("\n| quantity | simulated: median (10 % … 90 %) | real | inside |")
        print("|---|---|---|---|")
        print("\n".join(scene_table(variant, options.places, effects)))
        print("\n".join(same_day_table(variant, options.days, effects)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
