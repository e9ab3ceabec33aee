"""`train`: from pairs to a model that `to_landsat` maps."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from xharmonize._optional import require
from xharmonize._replace import written_aside
from xharmonize._urls import Remote, find, is_url, named, options_for
from xharmonize.cluster.share import require_usable
from xharmonize.cube.pairs import as_tree, beside_source
from xharmonize.errors import FitError, ModelError, StoreError, XHarmonizeError
from xharmonize.io.zarr.write import writer_lock
from xharmonize.models.bundle import HasBundle, write_bundle
from xharmonize.models.folders import local_target
from xharmonize.training import away, on_workers
from xharmonize.training import config as configs
from xharmonize.training.away import CHECKPOINTS, CONFIG, LOG, SAMPLES, WORK
from xharmonize.training.config import Closed, Config, Data, Method
from xharmonize.training.cutting import build_store, is_cut_from
from xharmonize.training.log import Log
from xharmonize.training.split import Split, split
from xharmonize.training.store import Store, open_at, remove_store
from xharmonize.training.toml import to_toml
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from xharmonize.training.job import Job

FIRST = ("ergas", "sam", "ndvi_rmse", "pixels")
"""Scores that the repr of a `Training` shows."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Training:
    """What a training gives.

    Attributes
    ----------
    model : Harmonizer or Dataset
        Goes into `xharmonize.to_landsat`: a fit, or the harmoniser of the bundle that was written.
    history : DataFrame
        What the log told, one row a line: ``step``, losses, ``validation``. Empty for closed forms.
    scores : DataFrame
        Of what was held out, by method and reference: identity, HLS v2 and least squares beside it;
        see `xharmonize.training.judge.judge`.
    notes : tuple of str
        What was left out of the scores, and why; what was held out.
    """

    model: Any
    history: pd.DataFrame
    scores: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return what was trained, and the scores that are asked for first."""
        bundle = self.model.bundle if isinstance(self.model, HasBundle) else None
        title = self.model.attrs.get("title", "fit") if bundle is None else bundle.card.title
        lines = [f"<Training> {title}"]
        if bundle is not None:
            lines.append(f"bundle: {bundle.ref.location}")
        if len(self.scores):
            first = [name for name in FIRST if name in self.scores]
            lines.append(f"scores of what was held out:\n{self.scores[first].round(3)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"attributes: {', '.join(vars(self))}"])


def train(
    method: str | Method | Closed,
    pairs: xr.DataTree | xr.Dataset | Mapping[str, xr.DataTree],
    *,
    config: Config | Method | Closed | None = None,
    client: Any = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Training:
    """Train a model on pairs; computes.

    Closed forms are fitted on all pairs, and scored by leaving one target date out at a time.
    Networks are trained on samples cut from the pairs; some dates, or spatial blocks where there is
    fewer than three, are held out to decide when to stop, and some to score. A training that was
    interrupted goes on where it stopped if it is called again with the same `out`, and ends with
    the same weights, bit for bit.

    Parameters
    ----------
    method : str
        ``"auto"``, ``"ols"``, ``"multi-ols"``, ``"deming"``, ``"per-pixel"``,
        ``"histogram-matching"``; or a network: ``"small-conv"``, ``"mgan"``, ``"hls-gan"``,
        ``"pix2pix"``, ``"tile-lut-conv"`` and its kin. Or the dataclass of one.
    pairs : DataTree, Dataset, or mapping of str to DataTree
        From `xharmonize.collect_pairs`; from `xharmonize.match_pairs`, whose source a network then
        sees at the target's pixel size; or of several sources from
        `xharmonize.training.collect_sources`. Of several places by name.
    config : dataclass, optional
        Options of the method (``xh.training.SmallConv(width=16)``), or `xh.training.Config` of
        method, data and run. By default the method's own.
    client : distributed.Client, optional
        To train a network on the workers of a cluster, one rank each, as `xh.training.Run` says
        (ranks, timeouts, restarts); see `xharmonize.cluster.run_ranks`. Closed forms are solved
        here, and read their pairs through the client.
    out : path or URL, optional
        Bundle of a network, or file of a fit (``fit.zarr``, ``fit.nc``), to write. A network's
        samples, checkpoints and log are kept beside it while it is trained, in ``<out>.training``;
        at a URL too, where a training that was killed goes on from on any machine.
        By default a bundle is temporary and is removed when Python ends.
    progress : bool, optional
        Whether to draw a bar; by default on a terminal.
    storage_options : mapping, optional
        Where `out` or ``Run(samples=...)`` is a URL: what fsspec's plugin takes. Workers get them
        with their tasks; they are kept in no bundle, configuration, log or checkpoint.

    Returns
    -------
    Training

    Raises
    ------
    UnknownModelError
        If there is no such method; the message names the nearest.
    OptionError
        If the configuration is of another method.
    FitError
        If there are no pairs, too few to hold some out, or nothing to learn from.
    BandError, GridError
        If bands or grids do not suit.
    ModelError
        If `out` exists.
    StoreError
        If `out` holds another training, another process trains there, or the disk is full: what was
        written stays.
    ClusterError
        If the workers do not suit, or were lost more often than ``Run(max_restarts=...)``: training
        again goes on from the last checkpoint.

    Examples
    --------
    >>> import xharmonize as xh
    >>> xh.training.train("smal-conv", None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    xharmonize.errors.UnknownModelError: method='smal-conv' is no method; did you...
    """
    settings = configs.settle(method, config)
    if isinstance(pairs, xr.Dataset) and {"source", "target"} <= set(pairs.data_vars):
        pairs = as_tree(pairs)
    if client is not None:
        require_usable(client)
    if isinstance(settings.method, Closed):
        return _closed(settings.method, pairs, out, progress, storage_options)
    return train_network(
        settings, pairs, out, progress, client=client, storage_options=storage_options
    )


def _closed(
    config: Closed,
    pairs: Any,
    out: Any,
    progress: bool | None,
    options: Mapping[str, Any] | None,
) -> Training:
    from xharmonize.harmonizers.registry import save_model
    from xharmonize.training import closed

    where = None if out is None else find(out, options_for(out, options))
    if isinstance(where, Path):
        _require_new(where)  # before hours of fitting
    tree = _one_tree(pairs)
    fitted = closed.fit(tree, config, progress=progress)
    scores, notes = closed.leave_one_out(tree, config, fitted, progress=progress)
    if out is not None:
        save_model(fitted, out, storage_options=options_for(out, options))
    return Training(model=fitted, history=pd.DataFrame(), scores=scores, notes=tuple(notes))


def _one_tree(pairs: Any) -> xr.DataTree:
    trees = list(pairs.values()) if isinstance(pairs, Mapping) else [pairs]
    trees = [pairs] if isinstance(pairs, xr.DataTree) else trees  # which is a mapping too
    if len(trees) != 1 or not isinstance(trees[0], xr.DataTree):
        raise FitError(
            "a closed form is fitted on the pairs of one place",
            cure="give what xh.collect_pairs returns",
        )
    if beside_source(trees[0]):
        raise FitError(
            f"pairs have further sources ({', '.join(beside_source(trees[0]))}), which a closed "
            "form does not look at",
            cure="train a network on them, or collect pairs of two cubes by xh.collect_pairs",
        )
    if not trees[0].sizes.get("pair", 0):
        raise FitError(
            "there are no pairs", cure="allow more days with collect_pairs(tolerance=...)"
        )
    return trees[0]


def train_network(
    settings: Config,
    pairs: Any,
    out: Any,
    progress: bool | None,
    *,
    client: Any = None,
    run: Callable[[Job, Log], dict[str, AnyArray]] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Training:
    """Train a network; `run` is what trains once samples are cut, by default here or on `client`.

    Other arguments, the result and errors are those of `train`.
    """
    require("torch", extra="train")
    require("safetensors", extra="train")
    if client is not None:
        on_workers.require_workers(client, settings)
    place = None if out is None else find(out, options_for(out, storage_options))
    with ExitStack() as held:
        if isinstance(place, Remote):
            target: Path | Remote = place
            work = held.enter_context(away.mirrored(place))
            own = f"{place.url}{WORK}/{SAMPLES}"
        else:
            target = folder = _target(out)
            work = folder.with_name(folder.name + WORK)
            own = str(work / SAMPLES)
            # Two trainings in one folder would mix their samples and checkpoints.
            held.enter_context(writer_lock(work, wait=0.0))
        samples = settings.run.samples or own
        with on_workers.cutting(client, work, samples if is_url(samples) else None):
            where = find(samples, options_for(samples, storage_options))
            store = _samples(settings, pairs, work, where)
        parts = split(store, settings.data)
        training = _trained(
            settings,
            pairs,
            store.only(settings.roles),
            parts,
            target=target,
            work=work,
            progress=progress,
            run=run or partial(_run, client=client),
        )
        for path in (store.path, own):
            remove_store(path, options_for(path, storage_options))
        shutil.rmtree(work / CHECKPOINTS)
        (work / CONFIG).unlink()  # the bundle has it, and nothing is interrupted any more
    return training


def _target(out: Any) -> Path:
    """Folder of the bundle, which must not be there."""
    if out is None:
        folder = tempfile.mkdtemp(prefix="xharmonize-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "model"
    target = local_target(out)
    _require_new(target)
    return target


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise ModelError(f"{target} exists", cure="name another out=, or remove it yourself")
    there = next(parent for parent in target.absolute().parents if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ModelError(f"{there} cannot be written", cure="name another out=")


def _samples(settings: Config, pairs: Any, work: Path, place: Path | Remote) -> Store:
    """Samples of an interrupted training, or newly cut ones."""
    text = to_toml(Config(method=settings.method, data=settings.data))
    told = work / CONFIG
    is_new = not told.exists()
    if not is_new:
        if told.read_text(encoding="utf-8") != text:
            raise StoreError(
                f"{work} holds an interrupted training with other settings",
                cure="give the settings in its config.toml to go on, or remove the folder",
            )
        whole = _opened(place)
        if whole is not None:
            _require_same(whole, pairs, settings.data, work)
            return whole
    try:
        work.mkdir(parents=True, exist_ok=True)
        # Before the samples: a process killed between the two can go on.
        with written_aside(told, "w") as aside:
            aside.write_text(text, encoding="utf-8")
        store = build_store(pairs, data=settings.data, **named(place))
    except XHarmonizeError as error:
        # Where no sample can be cut, other settings may follow. That a place cannot be reached or
        # written to says nothing of the samples that an interrupted training has there.
        if is_new or not isinstance(error, StoreError):
            told.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise StoreError(f"{work} cannot be written: {error}", cure="make room") from error
    return store


def _opened(place: Path | Remote) -> Store | None:
    """Samples, or None unless all of them are there."""
    try:
        return open_at(place)
    except StoreError:
        return None


def _require_same(store: Store, pairs: Any, data: Data, work: Path) -> None:
    """Raise `StoreError` unless the samples were cut from these pairs, which are scored."""
    if not is_cut_from(store, pairs, data):
        raise StoreError(
            f"{work} holds an interrupted training on other pairs",
            cure="give the pairs it began with to go on, or remove the folder",
        )


def _trained(
    settings: Config,
    pairs: Any,
    store: Store,
    parts: Split,
    *,
    target: Path | Remote,
    work: Path,
    progress: bool | None,
    run: Callable[[Job, Log], dict[str, AnyArray]],
) -> Training:
    from xharmonize.harmonizers.registry import load_model
    from xharmonize.training import cards
    from xharmonize.training.job import make_job
    from xharmonize.training.judge import judge

    method: Any = settings.method.for_samples(len(parts.training))  # type: ignore[union-attr]
    settings = replace(settings, method=method)
    facts = cards.Facts.of(
        store, parts.training, name=cards.slug(target.name, method.name), clip=settings.data.clip
    )
    job = make_job(settings, parts, facts, checkpoints=work / CHECKPOINTS)
    log = Log(
        work / LOG,
        steps=method.steps,
        progress=progress,
        tensorboard=settings.run.tensorboard,
    )
    weights = run(job, log)
    # Scored as users run it, hence from a bundle; then written with its scores.
    trial = work / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    write_bundle(trial, job.card, weights)
    scores, notes = judge({method.name: load_model(trial)}, pairs, store, parts)
    shutil.rmtree(trial)
    history = log.history()
    card = cards.finished(
        cards.for_original_pixels(job.card, store.degraded),
        split=parts,
        scores=_flat(scores),
        provenance=_provenance(settings, store, parts, history, _levels(job.line)),
    )
    where = named(target)
    write_bundle(card=card, weights=weights, readme=_readme(card, scores, notes), **where)
    return Training(
        model=load_model(where.pop("path"), **where),
        history=history,
        scores=scores,
        notes=(f"split {parts.describe()}", *notes),
    )


def _run(job: Job, log: Log, *, client: Any) -> dict[str, AnyArray]:
    """Weights of the best step."""
    from xharmonize.models.refs import Runtime
    from xharmonize.models.runtime import find_device

    if client is not None:
        return on_workers.train_on(client, job, log)
    return job.run(log, device=str(find_device(Runtime(device=job.config.run.device))))


def _flat(scores: pd.DataFrame) -> dict[str, float]:
    """Scores as a card has them: ``"ols, observed: ergas"``."""
    rows: list[Any] = list(scores.index)
    return {
        f"{method}, {reference}: {name}": round(float(value), 6)
        for (method, reference), row in zip(rows, scores.to_dict("records"))
        for name, value in row.items()
        if pd.notna(value)
    }


def _levels(line: Any) -> str:
    """How much the level of training dates differs, per band."""
    return ", ".join(f"{band} {sd:.4f}" for band, sd in zip(line.bands, line.levels))


def _provenance(
    settings: Any, store: Store, parts: Split, history: pd.DataFrame, between: str
) -> dict[str, str]:
    """What the bundle says of how it came about."""
    import torch

    import xharmonize

    used = [store.pairs[k] for k in sorted(set(store.pair[parts.training].tolist()))]
    best = history[history["is_best"] == True]["step"].max()  # noqa: E712  (NaN elsewhere)
    return {
        "trained on": f"{len(used)} pairs of {len({p.date for p in used})} dates, "
        f"{len(parts.training)} samples: {', '.join(sorted({p.date for p in used}))}"[:5000],
        "best step": "none" if pd.isna(best) else str(int(best)),
        "between-date SD": between,
        "seed": str(settings.method.seed),
        "config": to_toml(settings)[:5000],
        "versions": f"xharmonize {xharmonize.__version__}, torch {torch.__version__}",
    }


def _readme(card: Any, scores: pd.DataFrame, notes: list[str]) -> str:
    """The card for people."""
    facts = {name: value for name, value in card.provenance.items() if name != "config"}
    lines = [f"# {card.title}", "", card.description, ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    if len(scores):
        shown = scores.round(4)
        head = ["method", "reference", *map(str, shown.columns)]
        lines += ["", "Scores of what was held out:", "", "| " + " | ".join(head) + " |"]
        lines.append("|---" * len(head) + "|")
        lines += [
            "| " + " | ".join([*map(str, names), *map(str, row)]) + " |"
            for names, row in zip(shown.index, shown.to_numpy().tolist())
        ]
    lines += ["", *notes, "", "```toml", card.provenance["config"], "```"]
    return "\n".join(lines) + "\n"
