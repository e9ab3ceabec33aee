"""Bundles: folders with a STAC Item and weights, written atomically and verified when read."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from xharmonize._optional import require
from xharmonize._replace import Mode
from xharmonize._urls import Remote, find, is_url, put_whole
from xharmonize.errors import ModelError, UnknownModelError
from xharmonize.models import places
from xharmonize.models.card import Card
from xharmonize.models.folders import staged, write_file
from xharmonize.models.item import (
    README,
    VERSION,
    WEIGHTS,
    Described,
    File,
    read_item,
    write_item,
)
from xharmonize.models.places import Place, find_place, read_up_to
from xharmonize.models.refs import ModelRef
from xharmonize.models.safetensors import (
    PREFIX,
    Tensor,
    check_weight,
    header_length,
    is_finite,
    read_header,
    views,
)
from xharmonize.types import AnyArray

ITEM = "item.json"
MAX_ITEM, MAX_README = 4 * 2**20, 2**20
_PIECE = 2**22


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    ref : ModelRef
        Reference to the bundle, for use in graphs.
    card : Card
        Card of the model.
    """

    ref: ModelRef
    card: Card


@runtime_checkable
class HasBundle(Protocol):
    """A model that keeps the bundle it was opened from; None if there is none."""

    @property
    def bundle(self) -> Bundle | None:
        """Reference and card."""


def write_bundle(
    path: str | os.PathLike[str],
    card: Card,
    weights: Mapping[str, AnyArray],
    *,
    readme: str | None = None,
    mode: Mode = "w-",
    storage_options: Mapping[str, Any] | None = None,
) -> ModelRef:
    """Write a bundle atomically.

    An existing bundle is renamed before the new one takes its place. If the process is killed in
    between, the old bundle remains next to `path` under a hidden name until the next write. At a
    URL, the item is put last, and nothing is replaced.

    Parameters
    ----------
    path : str or path
        Folder, or URL of one in an object store (``"s3://bucket/models/mine"``).
    card : Card
        Card of the model.
    weights : mapping of str to array
        Weights by the architecture's names: float16, float32, float64 or int64.
    readme : str, optional
        Model card for people, in Markdown.
    mode : {"w-", "w"}
        ``"w-"`` fails if `path` exists, ``"w"`` replaces a bundle; other contents are never
        replaced.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Workers get them with their tasks.

    Raises
    ------
    StoreError
        If there is a bundle at a URL, another process writes there, or it cannot be reached.
    ModelError
        If `path` exists or, with ``"w"``, is not a bundle; if weights have another type or are not
        finite; or if the card has values that an item cannot hold.
    """
    arrays = {name: check_weight(name, array) for name, array in weights.items()}
    target = _target(path, storage_options)
    with _written(target, mode) as folder:
        save = require("safetensors.numpy", extra="train").save_file
        save(arrays, folder / WEIGHTS)
        # The library keeps the file to its owner; workers may be another user's.
        (folder / WEIGHTS).chmod(folder.stat().st_mode & 0o666)
        if readme is not None:
            write_file(folder / README, readme.encode())
        files = {name: _describe_file(folder / name) for name in sorted(os.listdir(folder))}
        described = Described(
            card=card,
            files=files,
            n_parameters=sum(array.size for array in arrays.values()),
            framework_version=_torch_version(),
        )
        item = write_item(described)
        write_file(folder / ITEM, item)
        _check_folder(find_place(folder), described)
    return _ref(item, target, card)


def _target(path: str | os.PathLike[str], options: Mapping[str, Any] | None) -> Path | Remote:
    find_place(path, options)  # which says what is wrong as a `ModelError`
    return find(path, options)


def _written(target: Path | Remote, mode: Mode) -> AbstractContextManager[Path]:
    """An empty folder, which becomes the bundle when the ``with`` block succeeds."""
    if isinstance(target, Path):
        return staged(target, _bundle_files, mode=mode)
    return put_whole(target, last=ITEM, mode=mode)


def _ref(item: bytes, target: Path | Remote, card: Card) -> ModelRef:
    options = target.options if isinstance(target, Remote) else {}
    return ModelRef(digest=_digest(item), location=str(target), name=card.name, options=options)


def open_bundle(
    location: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
) -> Bundle:
    """Open a bundle: read its item, and verify every file against it.

    Parameters
    ----------
    location : str or path
        Folder, as a path or an fsspec URL.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Workers get them with their tasks.

    Raises
    ------
    ModelError
        If there is no bundle; if a file is missing, damaged, a link, or not listed in the item; or
        if the item is malformed or newer than this package.
    """
    place = find_place(location, storage_options)
    try:
        item = place.read(ITEM, MAX_ITEM)
    except FileNotFoundError:
        raise ModelError(
            f"there is no bundle at {place.location}: it has no {ITEM}",
            cure="give the folder that write_bundle wrote",
        ) from None
    described = read_item(item, f"{place.location}: {ITEM}")
    _check_folder(place, described)
    ref = ModelRef(
        digest=_digest(item),
        location=place.location,
        name=described.card.name,
        options=dict(storage_options or {}),
    )
    return Bundle(ref=ref, card=described.card)


def read_weights(ref: ModelRef) -> dict[str, AnyArray]:
    """Read the weights of a referenced bundle, on a worker.

    A copy registered with `places.register` takes precedence over the location.

    Returns
    -------
    dict of str to array
        Writable views of one buffer.

    Raises
    ------
    ModelError
        If this process cannot access the bundle, or finds a different one there.
    """
    place, item = _find(ref)
    file = read_item(item, f"{place.location}: {ITEM}").files[WEIGHTS]
    _require_size(place, WEIGHTS, file)
    buffer = np.empty(file.size, np.uint8)
    return views(buffer, _walk_weights(place, file, buffer))


def copy_bundle(
    ref: ModelRef,
    path: str | os.PathLike[str],
    *,
    card: Card | None = None,
    mode: Mode = "w-",
    storage_options: Mapping[str, Any] | None = None,
) -> ModelRef:
    """Copy a bundle to a folder or URL, atomically; see `write_bundle`.

    Parameters
    ----------
    ref : ModelRef
        The bundle.
    path : str or path
        Folder to write to, or URL of one.
    card : Card, optional
        Card of the copy, for example with another tile. Default: the same card.
    mode : {"w-", "w"}
        As for `write_bundle`. Copying a bundle onto itself with the same card does nothing.
    storage_options : mapping, optional
        Of the copy's URL.

    Returns
    -------
    ModelRef
        Reference to the copy, with another location and, if the card differs, another digest.

    Raises
    ------
    ModelError
        If the bundle cannot be found or is damaged, or if `path` has other contents.
    """
    target = _target(path, storage_options)
    place, item = _find(ref)
    described = read_item(item, f"{place.location}: {ITEM}")
    if card is not None and card != described.card:
        described = replace(described, card=card)
        item = write_item(described)
    if place.location == str(target) and _digest(item) == ref.digest:
        _check_folder(place, described)
    else:
        with _written(target, mode) as folder:
            for name in described.files:
                _copy_file(place, name, described.files[name], folder / name)
            write_file(folder / ITEM, item)
            _check_folder(find_place(folder), described)
    return _ref(item, target, described.card)


def _find(ref: ModelRef) -> tuple[Place, bytes]:
    """Where this process finds a bundle, and its item, which has the digest of `ref`."""
    copy = places.registered(ref.digest)
    for location, options in [(copy, {}), (ref.location, ref.options)]:
        if location is None:
            continue
        try:
            place = find_place(location, options)
            item = place.read(ITEM, MAX_ITEM)
        except FileNotFoundError:
            continue
        if _digest(item) != ref.digest:
            raise ModelError(
                f"the bundle at {place.location} is not the one that model {ref.name!r} was loaded "
                f"from: sha256 {_digest(item)[:12]}…, not {ref.digest[:12]}…",
                cure="load the model again",
            )
        return place, item
    raise ModelError(
        f"model {ref.name!r} is not at {ref.location} as host {socket.gethostname()} sees it",
        cure="put "
        "the bundle where every worker sees it, or send it with xh.cluster.share(model, client)",
    )


def _digest(item: bytes) -> str:
    return hashlib.sha256(item).hexdigest()


def _check_folder(place: Place, described: Described) -> None:
    """Raise `ModelError` unless a folder holds the files its item names, whole, and no others."""
    with _present(place, ITEM):
        sizes = place.sizes()
    if sizes is not None:
        _require_names(sizes, described, place.location)
    for name, file in described.files.items():
        _require_size(place, name, file)
        if name == WEIGHTS:
            tensors = _walk_weights(place, file, None)
            n_parameters = sum(tensor.size for tensor in tensors.values())
            if n_parameters != described.n_parameters:
                raise ModelError(
                    f"{place.location}: {WEIGHTS} holds {n_parameters} values",
                    cure=f"{ITEM} says {described.n_parameters}",
                )
        else:
            with _present(place, name):
                data = place.read(name, MAX_README)
            _require_hash(hashlib.sha256(data).hexdigest(), name, file, place)


@contextmanager
def _present(place: Place, name: str) -> Iterator[None]:
    """Turn `FileNotFoundError` into `ModelError`."""
    try:
        yield
    except FileNotFoundError:
        raise ModelError(
            f"the bundle at {place.location} lacks {name}", cure="get it again"
        ) from None


def _require_names(names: Collection[str], described: Described, location: str) -> None:
    expected = {ITEM, *described.files}
    lacking = ", ".join(sorted(expected - set(names)))
    if lacking:
        raise ModelError(f"the bundle at {location} lacks {lacking}", cure="get it again")
    strange = ", ".join(map(repr, sorted(set(names) - expected)))
    if strange:
        raise ModelError(
            f"the bundle at {location} holds {strange}, which {ITEM} does not name",
            cure="remove it",
        )


def _require_size(place: Place, name: str, file: File) -> None:
    with _present(place, name):
        size = place.size(name)
    if size != file.size:
        raise ModelError(
            f"{place.location}: {name} has {size} bytes",
            cure=f"{ITEM} says {file.size}; get it again",
        )
    if name == README and size > MAX_README:
        raise ModelError(
            f"{place.location}: {name} has more than {MAX_README} bytes", cure="shorten it"
        )


def _require_hash(found: str, name: str, file: File, place: Place) -> None:
    if found != file.sha256:
        raise ModelError(
            f"{place.location}: {name} has the sha256 {found[:12]}…",
            cure=f"{ITEM} says "
            f"{file.sha256[:12]}…: it was damaged or exchanged; get the bundle again",
        )


def _walk_weights(place: Place, file: File, buffer: AnyArray | None) -> dict[str, Tensor]:
    """Read the weights once: check header, hash and values, and keep the bytes where asked to.

    Parameters
    ----------
    buffer : (byte,) uint8 array, optional
        Takes the whole file.
    """
    what = f"{place.location}: {WEIGHTS}"
    digest = hashlib.sha256()
    done = 0

    def keep(piece: bytes) -> None:
        nonlocal done
        digest.update(piece)
        if buffer is not None:
            buffer[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)

    with _present(place, WEIGHTS), place.open(WEIGHTS) as stream:
        prefix = read_up_to(stream, PREFIX)
        header = read_up_to(stream, header_length(prefix, file.size, what))
        tensors = read_header(header, file.size, what)
        keep(prefix + header)
        odd = None
        for name, tensor in sorted(tensors.items(), key=lambda pair: pair[1].start):
            while piece := read_up_to(stream, min(_PIECE, tensor.stop - done)):
                keep(piece)
                if odd is None and not is_finite(piece, tensor):
                    odd = name
    _require_hash(digest.hexdigest(), WEIGHTS, file, place)
    if odd is not None:
        raise ModelError(
            f"{what}: tensor {odd} holds values that are not finite, so every prediction would be "
            "NaN",
            cure="get the bundle again, or train the model again",
        )
    return tensors


def _copy_file(place: Place, name: str, file: File, path: Path) -> None:
    """Copy up to the bytes the item names; what arrives is checked afterwards."""
    left = file.size
    with _present(place, name), place.open(name) as stream, path.open("wb") as copy:
        while left > 0 and (piece := stream.read(min(_PIECE, left))):
            copy.write(piece)
            left -= len(piece)
        copy.flush()
        os.fsync(copy.fileno())


def _describe_file(path: Path) -> File:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return File(size=path.stat().st_size, sha256=digest.hexdigest())


def _bundle_files(folder: Path) -> Collection[str] | None:
    """Names of the files of a bundle, all that its folder holds; None where it is none."""
    try:
        place = find_place(folder)
        names = {ITEM, *read_item(place.read(ITEM, MAX_ITEM)).files}
        return names if set(place.sizes() or ()) <= names else None
    except (ModelError, FileNotFoundError):
        return None


def _torch_version() -> str:
    """Version of torch, which is not imported for it; empty where there is none."""
    try:
        found = version("torch")
    except PackageNotFoundError:
        return ""
    return found if re.fullmatch(VERSION, found) else ""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A bundle on the search path, whose weights have not been read.

    Attributes
    ----------
    name : str
        Name of the card, or of the folder if the item cannot be read.
    location : str
        Folder.
    card : Card or None
        None if the item cannot be read.
    problem : str
        Why the item cannot be read; empty if it can.
    """

    name: str
    location: str
    card: Card | None
    problem: str = ""


def list_bundles() -> tuple[Listed, ...]:
    """List the bundles in the folders of the environment variable XHARMONIZE_MODELS.

    If two share a name, the one in the earlier folder takes precedence. Weights are not read.

    Raises
    ------
    ModelError
        If one of the folders cannot be read.
    """
    found: dict[str, Listed] = {}
    for folder in places.search_path():
        try:
            inside = sorted(path for path in folder.iterdir() if _is_candidate(path))
        except OSError as error:
            raise ModelError(f"{folder} of {places.ENVIRONMENT} cannot be read: {error}") from error
        for path in inside:
            listed = _list_one(path)
            found.setdefault(listed.name, listed)
    return tuple(found.values())


def _is_candidate(path: Path) -> bool:
    """Skip hidden folders: bundles being written, or left by a writer that died."""
    return not path.name.startswith(".") and (path / ITEM).is_file()


def _list_one(path: Path) -> Listed:
    try:
        card = read_item(find_place(path).read(ITEM, MAX_ITEM), f"{path}: {ITEM}").card
    except (ModelError, FileNotFoundError) as error:
        return Listed(name=path.name, location=str(path), card=None, problem=str(error))
    return Listed(name=card.name, location=str(path), card=card)


def open_named(name_or_path: str) -> Bundle:
    """Open a bundle by name (see `list_bundles`), by its folder, or by an fsspec URL.

    Raises
    ------
    UnknownModelError
        If there is no bundle of that name, nor such a folder.
    ModelError
        As `open_bundle`.
    """
    location = {one.name: one.location for one in list_bundles()}.get(name_or_path, name_or_path)
    if not (is_url(location) or os.path.isdir(location)):
        raise UnknownModelError(
            f"no bundle {name_or_path!r}",
            cure=f"give a model of xh.load_model, or put its folder into {places.ENVIRONMENT}",
        )
    return open_bundle(location)
