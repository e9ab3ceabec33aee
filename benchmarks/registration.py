"""How well shifts are found: known ones beside phase correlation, and real dates left out.

Run ``python benchmarks/registration.py [--small] [catalog.json …]``. Simulated landscapes are moved
by known amounts; half of the images have a field that changed and a cloud that is missing. Real
dates (``XHARMONIZE_DATA``, or ``../shared/data``) are compared in a network, each comparison with a
fit to the others. Prints root mean square errors per axis [m].
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import fourier_shift, gaussian_filter

import xharmonize as xh
from xharmonize.kernels.regrid import AxisMap
from xharmonize.kernels.shifts import View, measure_shift

STEP = 2.0
"""Side of a pixel of the landscape [m]."""

MARGIN = 60.0
PIXEL = 10.0


def landscape(size: float, *, bands: int = 2, seed: int = 0) -> np.ndarray:
    """Fields and detail, (band, y, x), periodic, with a margin around."""
    random = np.random.default_rng(seed)
    n = round((size + 2 * MARGIN) / STEP)
    layers = []
    for _ in range(bands):
        fields = np.sign(gaussian_filter(random.normal(size=(n, n)), 14, mode="wrap"))
        detail = gaussian_filter(random.normal(size=(n, n)), 4, mode="wrap")
        layers.append(0.2 + 0.05 * fields + 0.2 * detail)
    return np.stack(layers)


def seen(ground: np.ndarray, shift: Sequence[float], resolution: float = PIXEL) -> np.ndarray:
    """The landscape moved east and north [m], averaged to pixels (band, y, x)."""
    pixels = (-shift[1] / STEP, shift[0] / STEP)
    moved = [np.fft.ifft2(fourier_shift(np.fft.fft2(layer), pixels)).real for layer in ground]
    edge, k = round(MARGIN / STEP), round(resolution / STEP)
    inner = np.stack(moved)[:, edge:-edge, edge:-edge]
    n = inner.shape[1] // k
    return inner[:, : n * k, : n * k].reshape(len(moved), n, k, n, k).mean(axis=(2, 4))


def simulated(n_images: int = 40, size: float = 640) -> dict[str, np.ndarray]:
    """Errors (image, 2) of each method; the second half has a changed field and a cloud."""
    from skimage.registration import phase_cross_correlation

    random = np.random.default_rng(0)
    errors: dict[str, list] = {"xharmonize": [], "phase_cross_correlation": []}
    for n in range(n_images):
        ground, shift = landscape(size, bands=1, seed=n), random.normal(0, 4, 2)
        moving, fixed = seen(ground, shift), 1.2 * seen(ground, (0, 0)) - 0.02
        moving, fixed = (image + random.normal(0, 0.004, image.shape) for image in (moving, fixed))
        rows, columns = moving.shape[1:]
        if n >= n_images // 2:
            fixed[:, : rows // 4, : columns // 4] += 0.05
            fixed[:, -rows // 4 :, -columns // 4 :] = np.nan
        axes = [AxisMap(first=0.0, step=1.0, n_source=k, sigma=1.0) for k in (rows, columns)]
        view = View(y=axes[0], x=axes[1], shape=(rows, columns), halve=True)
        found = measure_shift(moving, fixed, view, max_shift=4).shift
        filled = np.where(np.isnan(fixed), np.nanmean(fixed), fixed)
        peer = -phase_cross_correlation(filled[0], moving[0], upsample_factor=100)[0]
        for name, one in (("xharmonize", found), ("phase_cross_correlation", peer)):
            errors[name].append(one * [-PIXEL, PIXEL] - shift[::-1])
    return {name: np.array(one)[:, ::-1] for name, one in errors.items()}


def left_out(catalog: Path, span: str | None = None) -> tuple[np.ndarray, int]:
    """What comparisons of dates with four or more differ by from a fit to the others (edge, 2)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cube = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            bands=["green", "red", "nir", "swir16"],
            resolution=10,
            platform="infer",
            datetime=span,
        )
    fit = xh.fit_shifts(cube.load())
    count = dict(zip(fit["time"].values, fit["n_edges"].values))
    ends = zip(fit["first_time"].values, fit["second_time"].values)
    well = [min(count[one], count[other]) >= 4 for one, other in ends]
    errors = np.stack([fit[f"left_out_{axis}"].values[well] for axis in "xy"], axis=-1)
    return errors, int((fit["n_edges"] >= 4).sum())


def rms(errors: np.ndarray) -> np.ndarray:
    """Root mean square per axis."""
    return np.sqrt(np.nanmean(errors**2, axis=0))


def main(arguments: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Print the errors [m]."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    is_small = "--small" in given
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    catalogs = [Path(name) for name in given if name[0] != "-"] or [
        Path(folder) / f"flanders-{year}" / "catalog.json" for year in (2018, 2019)
    ]
    result: dict[str, np.ndarray] = {}
    for name, errors in simulated(*((6, 320) if is_small else ())).items():
        half = len(errors) // 2
        for what, part in (("clear", errors[:half]), ("changed and cloudy", errors[half:])):
            result[f"{name}, {what}"] = rms(part)
            missed = int(np.isnan(part).any(axis=1).sum())
            x, y = rms(part)
            print(f"{name + ', ' + what:45} {x:6.2f} {y:6.2f}  not found: {missed}")
    for catalog in () if is_small else catalogs:
        if catalog.exists():
            start = time.process_time()
            errors, n_dates = left_out(catalog)
            result[catalog.parent.name] = rms(errors)
            x, y = rms(errors)
            seconds = time.process_time() - start
            note = f"{len(errors)} comparisons, {n_dates} dates, {seconds:.0f} s"
            print(f"{catalog.parent.name + ', left out':45} {x:6.2f} {y:6.2f}  {note}")
    return result


if __name__ == "__main__":
    main()
