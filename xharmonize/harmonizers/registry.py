"""Look up models by name, and save and open bundles and fits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._replace import Mode, require_mode, written_aside
from xharmonize._urls import Remote, find, is_url, put_whole
from xharmonize.cube.contract import REFLECTANCE, read_contract, require_contract, with_history
from xharmonize.errors import (
    MissingDependencyError,
    ModelError,
    UnknownModelError,
    XHarmonizeError,
    suggest,
)
from xharmonize.harmonizers.auto_harmonizer import AUTO, AutoHarmonizer
from xharmonize.harmonizers.linear import LINEAR, LinearHarmonizer
from xharmonize.harmonizers.lut.harmonizers import (
    HISTOGRAM,
    LUT,
    GlobalLutHarmonizer,
    HistogramHarmonizer,
    TileLutHarmonizer,
)
from xharmonize.harmonizers.lut.predictors import TABLES
from xharmonize.harmonizers.pixelwise import PIXELWISE, PixelwiseHarmonizer
from xharmonize.harmonizers.protocol import Base, Checked, Harmonizer, Model, wrong_direction
from xharmonize.harmonizers.published import BandpassHarmonizer
from xharmonize.io.zarr.remote import as_zarr
from xharmonize.models.bundle import (
    ITEM,
    Bundle,
    HasBundle,
    Listed,
    copy_bundle,
    list_bundles,
    open_bundle,
)
from xharmonize.sensors import Names
from xharmonize.sensors.bandpass import get_table, list_tables


def _later(name: str) -> Callable[..., Harmonizer]:
    """A kind of a layer above this one, found when a fit of it is applied."""

    def make(**fields: Any) -> Harmonizer:
        made: Harmonizer = resolve_name(name)(**fields)
        return made

    return make


_KINDS: dict[str, Callable[..., Harmonizer]] = {
    AUTO: AutoHarmonizer,
    LINEAR: LinearHarmonizer,
    PIXELWISE: PixelwiseHarmonizer,
    HISTOGRAM: HistogramHarmonizer,
    LUT: GlobalLutHarmonizer,
    TABLES: TileLutHarmonizer,
    "temporal": _later("xharmonize.fusion.methods.temporal:TemporalFiller"),
    "nearest": _later("xharmonize.fusion.methods.temporal:NearestFiller"),
    "sar-regression": _later("xharmonize.fusion.methods.sar_regression:SarRegressionFiller"),
}
_NETCDF = (".nc", ".nc4", ".h5")
_MIN_VALID = {"hls-v2": 1.0}  # HLS: any fill among the sub-pixels gives fill


@dataclass(frozen=True, kw_only=True)
class FunctionHarmonizer(Base):
    """A plain function as a harmoniser; it is trusted to reach the requested bandpass.

    Attributes
    ----------
    function : callable
        Maps the reflectance (time, band, y, x), a DataArray with its contract, to the same.
    """

    function: Callable[[Any], Any]
    name: str
    target_bandpass: str
    source_bandpass: str = ""
    bands: tuple[str, ...] = ()
    min_valid: float = 0.5
    changes_grid: bool = False
    citation: str = ""

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> Checked:
        """Accept any cube with a contract: the function does not state what it is for."""
        steps = tuple(read_contract(cube))
        return Checked(steps=steps, is_due=(True,) * len(steps))

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:  # noqa: ARG002
        """Call the function on the reflectance."""
        array = cube[REFLECTANCE]
        result = self.function(array)
        if not isinstance(result, xr.DataArray):
            raise ModelError(
                f"model {self.name!r} returned {type(result).__name__}",
                cure="a model returns a cube",
            )
        require_contract(result)
        attrs = with_history(
            {**array.attrs, **result.attrs}, f"{self.name}: {self.target_bandpass}"
        )
        bandpass = np.full(result.sizes["time"], self.target_bandpass)
        result = result.assign_attrs(attrs).assign_coords(bandpass=("time", bandpass))
        return result.to_dataset(name=REFLECTANCE)


def list_models() -> pd.DataFrame:
    """List models by name, with direction, level, title, kind and location.

    Built-in models come first, then the bundles in the folders of the environment variable
    ``XHARMONIZE_MODELS``; of two models with the same name, the first is used. Published
    coefficients can be inverted, so each of them works in both directions. Citation and bands are
    attributes of the model returned by `load_model`.
    """
    tables = [get_table(name) for name in list_tables()]
    rows: dict[str, tuple[str, ...]] = {
        table.name: (
            table.direction,
            str(Names.of(table.levels)),
            table.title.split(",")[0],
            LINEAR,
            "built in",
        )
        for table in tables
    }
    for listed in list_bundles():
        rows.setdefault(listed.name, _row(listed))
    columns = ["direction", "level", "title", "kind", "location"]
    return pd.DataFrame(
        [*rows.values()], index=pd.Index([*rows], name="model"), columns=pd.Index(columns)
    )


def _row(listed: Listed) -> tuple[str, ...]:
    card = listed.card
    if card is None:
        return "", "", f"unreadable: {listed.problem}", "", listed.location
    direction = f"{card.source_bandpass or 'any'} to {card.target_bandpass}"
    return (
        direction,
        str(Names.of(card.levels)) if card.levels else "",
        card.title,
        card.kind,
        listed.location,
    )


FIT_ATTR = "fitted_model"
"""Attribute of a series that holds the model it was made with, as text."""


def fit_to_text(fit: xr.Dataset) -> str:
    """Write a fit without pixels as JSON, for an attribute."""
    layers = {
        str(name): {
            "dims": list(layer.dims),
            "dtype": "U" if layer.dtype.kind in "OTU" else layer.dtype.str,
            "data": (layer.astype("i8") if layer.dtype.kind == "M" else layer).values.tolist(),
            "is_coord": name in fit.coords,
        }
        for name, layer in fit.variables.items()
    }
    return json.dumps({"attrs": fit.attrs, "layers": layers})


def fit_from_text(text: str) -> xr.Dataset:
    """Read a fit that `fit_to_text` wrote.

    Raises
    ------
    ModelError
        If the text is not one.
    """
    try:
        found = json.loads(text)
        parts: list[dict[str, Any]] = [{}, {}]
        for name, own in found["layers"].items():
            data = np.array(own["data"], None if own["dtype"] == "U" else own["dtype"])
            parts[bool(own["is_coord"])][name] = (own["dims"], data)
        fit = xr.Dataset(parts[0], coords=parts[1], attrs=found["attrs"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"the attribute {FIT_ATTR!r} holds no fit ({error})") from None
    if fit.attrs.get("model") not in _KINDS:
        raise ModelError(f"the attribute {FIT_ATTR!r} holds no fit")
    return fit


def load_model(
    name_or_path: str | os.PathLike[str] | xr.Dataset,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Harmonizer | xr.Dataset:
    """Load a model by name, open a bundle or a saved fit, or take the fit from a series.

    Parameters
    ----------
    name_or_path : str, path or Dataset
        A name in `list_models`; the path or fsspec URL of a bundle's folder, or of a fit written
        by `save_model`; or a series made by ``densify(model="auto")``.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Workers get them with their tasks.

    Returns
    -------
    Harmonizer or Dataset
        A harmoniser for a name or a bundle; a Dataset for a saved fit, lazy if it has pixels. Both
        are accepted wherever a model is.

    Raises
    ------
    UnknownModelError
        If there is neither a model nor a file of that name.
    ModelError
        If the file is not a fit of this package, or the bundle is damaged or too new for it.
    """
    if isinstance(name_or_path, xr.Dataset):
        if FIT_ATTR not in name_or_path.attrs:
            raise ModelError(
                "the Dataset was made without a fit of its own",
                cure="make the series with densify(model='auto')",
            )
        return fit_from_text(str(name_or_path.attrs[FIT_ATTR]))
    name = os.fspath(name_or_path)
    if name == AUTO:
        raise UnknownModelError(
            "'auto' is fitted to pairs of your own",
            cure="call xh.densify(target, cube, model='auto'), or pass a fit of "
            "xharmonize.harmonizers.fit_auto(xh.collect_pairs(cube, target))",
            value=name,
        )
    if name in list_tables():
        return builtin(name)
    bundles = {listed.name: listed.location for listed in list_bundles()}
    location = bundles.get(name, name)
    if is_url(location) or storage_options:
        return _load_from(find(location, storage_options))
    if os.path.lexists(os.path.join(location, ITEM)):
        return _from_bundle(open_bundle(location))
    path = Path(name)
    if not path.exists():
        raise UnknownModelError(
            f"no model and no file {name!r}",
            cure=f"{suggest(name, [*list_tables(), *bundles])}"
            f"built in are {', '.join(list_tables())}"
            + (f"; XHARMONIZE_MODELS has {', '.join(bundles)}" if bundles else ""),
            value=name,
        )
    is_readable = path.suffix in _NETCDF or (path / "zarr.json").is_file()
    return _of_known_kind(_open(path) if is_readable else xr.Dataset(), path)


def _load_from(place: Path | Remote) -> Harmonizer | xr.Dataset:
    """The fit or the bundle at a URL."""
    if isinstance(place, Path):
        return load_model(place)
    if not place.has("zarr.json"):
        return _from_bundle(open_bundle(place.url, storage_options=place.options))
    return _of_known_kind(_settled(xr.open_zarr(as_zarr(place), consolidated=False)), place)


def _of_known_kind(fit: xr.Dataset, place: Path | Remote) -> xr.Dataset:
    if fit.attrs.get("model") not in _KINDS:
        raise ModelError(f"{place} holds no bundle, and no fit written by save_model")
    return fit


def _from_bundle(bundle: Bundle) -> Harmonizer:
    """The harmoniser of a bundle; workers read its weights."""
    name = bundle.card.harmonizer
    try:
        opener = resolve_name(name)
        if not callable(opener):
            raise TypeError("it is no function")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"kind {bundle.card.kind!r} names the harmoniser {name!r}, which cannot be loaded: "
            f"{error}",
            cure='define it in a module that can be imported, harmonizer = "package.module:name"',
        ) from error
    harmonizer: Harmonizer = opener(ref=bundle.ref, card=bundle.card)
    return harmonizer


def save_model(
    model: xr.Dataset | Harmonizer,
    path: str | os.PathLike[str],
    *,
    mode: Mode = "w-",
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Save a fit or copy a bundle; computes.

    Fits are written as netCDF if the path ends in ``.nc``, otherwise as a Zarr v3 store.

    Parameters
    ----------
    model : Dataset or Harmonizer
        A fit, for example from `fit_linear`, or a bundle opened with `load_model`.
    path : str or path
        File or folder, or URL of a folder. It is written elsewhere first and moved into place once
        complete; at a URL, what readers look for is put last.
    mode : {"w-", "w"}
        ``"w-"`` fails if `path` exists; ``"w"`` replaces a fit by a fit, a bundle by a bundle. At
        a URL nothing is replaced.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes.

    Raises
    ------
    StoreError
        If there is something at a URL, another process writes there, or it cannot be reached.
    ModelError
        If `model` is neither, `path` exists, or something else would be replaced.
    """
    bundle = model.bundle if isinstance(model, HasBundle) else None
    if bundle is not None:
        copy_bundle(bundle.ref, path, card=bundle.card, mode=mode, storage_options=storage_options)
    elif isinstance(model, xr.Dataset) and model.attrs.get("model") in _KINDS:
        _save_fit(model, find(path, storage_options), mode=mode)
    else:
        raise ModelError(
            "save_model writes fits such as those of fit_linear and fit_auto, and models "
            "that load_model opened from a bundle"
        )


def _save_fit(fit: xr.Dataset, path: Path | Remote, *, mode: Mode) -> None:
    require_mode(mode)
    bare = fit.drop_encoding()
    bare = bare.assign_coords(_as_text(bare))
    if isinstance(path, Remote):
        if path.name.endswith(_NETCDF):
            raise ModelError(
                f"{path}: netCDF is written to files of this machine", cure="name it fit.zarr"
            )
        with put_whole(path, last="zarr.json", mode=mode) as new:
            bare.to_zarr(new, mode="w-", zarr_format=3, consolidated=False)
        return
    with written_aside(path, mode, error=ModelError) as new:
        if path.exists() and (path.is_file() or any(path.iterdir())):
            _require_fit(path)
        if path.suffix in _NETCDF:
            _require_h5netcdf()
            bare.to_netcdf(new, engine="h5netcdf")
        else:
            bare.to_zarr(new, mode="w-", zarr_format=3, consolidated=False)


def _require_fit(path: Path) -> None:
    """Raise `ModelError` if the path holds anything but a fit, so that it is not replaced."""
    try:
        found = load_model(path)
    except (XHarmonizeError, OSError, ValueError):
        found = None
    if not isinstance(found, xr.Dataset):
        raise ModelError(f"{path} holds no fit of xharmonize and stays", cure="name another path")


def _as_text(fit: xr.Dataset) -> dict[str, xr.DataArray]:
    """String coordinates as variable-length text, which both formats support."""
    return {
        str(name): coord.astype(object)
        for name, coord in fit.coords.items()
        if coord.dtype.kind in "UT"
    }


def _open(path: Path) -> xr.Dataset:
    if path.suffix in _NETCDF:
        _require_h5netcdf()
        fit = xr.open_dataset(path, engine="h5netcdf", chunks={})
    else:
        fit = xr.open_zarr(path, consolidated=False)
    return _settled(fit)


def _settled(fit: xr.Dataset) -> xr.Dataset:
    """Loaded unless it has pixels, with text and lists as they were before they were written."""
    if "x" not in fit.dims:
        fit = fit.load()
    text = {n: c for n, c in fit.coords.items() if c.dtype.kind in "OT"}
    fit = fit.assign_coords({n: (c.dims, np.array(c.values.tolist())) for n, c in text.items()})
    fit.attrs = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fit.attrs.items()}
    return fit


def _require_h5netcdf() -> None:
    lacking = [name for name in ("h5netcdf", "h5py") if find_spec(name) is None]
    if lacking:
        raise MissingDependencyError(
            f"netCDF needs {' and '.join(lacking)}: pip install {' '.join(lacking)}, or save to a "
            "path that ends in .zarr"
        )


def builtin(name: str) -> BandpassHarmonizer:
    """Return a published table as a harmoniser, in its published direction."""
    return BandpassHarmonizer(table=get_table(name), min_valid=_MIN_VALID.get(name, 0.5))


def resolve(model: Model, target_bandpass: str) -> Harmonizer:
    """Return the harmoniser for a model, in the direction of `target_bandpass`.

    Raises
    ------
    UnknownModelError
        If a name is not known.
    ModelError
        If the model leads to another bandpass, or a fit cannot be inverted.
    """
    harmonizer = as_harmonizer(model, target_bandpass)
    if harmonizer.target_bandpass == target_bandpass:
        return harmonizer
    if harmonizer.source_bandpass == target_bandpass:
        return harmonizer.inverse()
    raise wrong_direction(harmonizer, target_bandpass)


def as_harmonizer(model: Any, target_bandpass: str = "") -> Harmonizer:
    """Return the harmoniser for a model, in its own direction.

    `target_bandpass` is the bandpass that a plain function is trusted to reach.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_model(model)
    if isinstance(model, xr.Dataset):
        kind = model.attrs.get("model")
        if kind not in _KINDS:
            raise ModelError(
                "the Dataset is no fit (its attribute 'model' is missing or unknown)",
                cure="make one with fit_linear, fit_pixelwise or fit_histogram",
            )
        return _KINDS[str(kind)](fit=model)
    if isinstance(model, Harmonizer):
        return model
    if callable(model):
        name = getattr(model, "__name__", repr(model))
        return FunctionHarmonizer(function=model, name=name, target_bandpass=target_bandpass)
    raise ModelError(
        f"{model!r} is no model: give a name of xh.harmonizers.list_models(), the path of a fit, "
        "a fit, or a callable that takes and returns a cube"
    )
