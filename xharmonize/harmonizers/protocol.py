"""The harmoniser protocol, and the rule for whether a model applies to a date."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable

import xarray as xr

from xharmonize._replace import Mode
from xharmonize._shown import Shown
from xharmonize.cube.companions import ResultFlag, carry_companions
from xharmonize.cube.contract import Step, read_contract, require_bands
from xharmonize.errors import ModelError, RadiometryError
from xharmonize.harmonizers import base
from xharmonize.models.bundle import Bundle, copy_bundle
from xharmonize.models.card import Card
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.sensors import UNKNOWN, Names


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The observations that a model was made for.

    Attributes
    ----------
    name : str
        Name of the model, for messages.
    target_bandpass, source_bandpass : str
        Bandpass of the result and of its source; empty: any.
    sensors, levels : frozenset of str
        Products and processing levels of the source; empty: any.
    """

    name: str
    target_bandpass: str
    source_bandpass: str = ""
    sensors: frozenset[str] = frozenset()
    levels: frozenset[str] = frozenset()

    @classmethod
    def of_fit(cls, fit: xr.Dataset, name: str) -> Self:
        """Return the scope stated by the attributes of a fit."""
        return cls(
            name=name,
            target_bandpass=str(fit.attrs["target_bandpass"]),
            source_bandpass=str(fit.attrs.get("source_bandpass", "")),
            sensors=_stated(fit.attrs.get("source_sensor", "")),
            levels=_stated(fit.attrs.get("source_level", "")),
        )

    @classmethod
    def of_card(cls, card: Card) -> Self:
        """Return the scope stated by the card of a bundle."""
        return cls(
            name=card.name,
            target_bandpass=card.target_bandpass,
            source_bandpass=card.source_bandpass,
            sensors=_stated(card.source_sensor),
            levels=frozenset(card.levels),
        )

    def covers(self, step: Step) -> bool:
        """Whether the model changes a date; False if it already has the target's bandpass.

        If source and target have the same bandpass (HLS S30 and L30), the sensor decides.

        Raises
        ------
        RadiometryError
            If the date matches neither the source nor the target of the model, or is not described.
            Unknown properties are refused, because applying the model would be a guess.
        """
        self._require_bandpass(step)
        if self.sensors and self.source_bandpass == self.target_bandpass:
            own = Names.of(step.sensor)
            if UNKNOWN not in own and not own & self.sensors:
                return False
        elif step.bandpass == self.target_bandpass:
            return False
        self._require("sensor", step.sensor, self.sensors, step)
        self._require("level", step.level, self.levels, step)
        return True

    def _require_bandpass(self, step: Step) -> None:
        if step.bandpass == UNKNOWN:
            raise RadiometryError(
                ": its bandpass is unknown",
                cure="settle it with xh.describe(cube, sensor=..., platform=...)",
                item=step.item_id,
            )
        if self.source_bandpass and step.bandpass not in (
            self.source_bandpass,
            self.target_bandpass,
        ):
            raise RadiometryError(
                f"model {self.name!r} goes from {self.source_bandpass} to {self.target_bandpass}, "
                f"item {step.item_id!r} is in {step.bandpass}",
                cure="leave it out, or choose another "
                f"model{' (roy-2016 takes etm+)' if step.bandpass == 'etm+' else ''}",
            )

    def _require(self, what: str, value: str, stated: frozenset[str], step: Step) -> None:
        """Raise unless all names of a date are among those stated by the model."""
        if not stated or Names.of(value) <= stated:
            return
        known = " or ".join(sorted(stated)) + (" reflectance" if what == "level" else "")
        made = f"model {self.name!r} was made for {known}, item {step.item_id!r}"
        if value == UNKNOWN:
            raise RadiometryError(
                f"{made}: its {what} is unknown",
                cure=f"settle it with xh.describe(cube, {what}=...)",
            )
        raise RadiometryError(f"{made} is {value}", cure="leave it out, or choose another model")


def _stated(text: object) -> frozenset[str]:
    """Names stated by a model; empty if its own data were unknown."""
    names = Names.of(text)
    return frozenset() if UNKNOWN in names else names


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The checked dates of a cube, with its contract read once.

    Attributes
    ----------
    steps : tuple of Step
        The contract of each date.
    is_due : tuple of bool
        Which dates are changed; the others already have the target's bandpass.
    """

    steps: tuple[Step, ...]
    is_due: tuple[bool, ...]

    @property
    def due(self) -> list[Step]:
        """The contract of the dates that are changed."""
        return [step for step, is_due in zip(self.steps, self.is_due) if is_due]


@runtime_checkable
class Harmonizer(Protocol):
    """A callable that converts a cube to the bandpass of another sensor, lazily.

    Dates that already have the target's bandpass are unchanged. The result has the type of the
    cube, except with the option ``flags``, and its grid, unless `changes_grid` is True. `Base`
    implements most of the protocol.
    """

    @property
    def name(self) -> str:
        """Key in the registry, or the name of the fit."""

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to; empty: any."""

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the result."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the source bands it can use."""

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Common names of the bands of the result; empty: those of the cube."""

    @property
    def needs_all_bands(self) -> bool:
        """Whether a cube that lacks one of `bands` is refused."""

    @property
    def min_valid(self) -> float:
        """Minimum valid fraction of a target pixel [1] when the cube is regridded first."""

    @property
    def changes_grid(self) -> bool:
        """Whether the result is on a grid of the model's own; such a model is applied first."""

    @property
    def target_platforms(self) -> tuple[str, ...]:
        """Target platforms that the model distinguishes, by the option ``target_platform``."""

    @property
    def citation(self) -> str:
        """Reference for the coefficients or the method."""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `configured` takes."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the cubes it is applied to.

        The first is passed by position and defines the dates of the result. Others are passed by
        name, such as the fine pairs of a fusion: ``model(coarse, fine=pairs)``.
        """

    @property
    def needs_like_bands(self) -> bool:
        """Whether it looks at the cube's own bands of the other `sources` only."""

    @property
    def bundle(self) -> Bundle | None:
        """The bundle it was opened from; None for published coefficients, fits and functions."""

    def summary(self) -> Mapping[str, str]:
        """Return what a user asks first, by name: direction, bands, source."""

    def configured(self, **options: Any) -> Harmonizer:
        """Return the model with some options set; raise for options it does not support."""

    def inverse(self) -> Harmonizer:
        """Return the model in the other direction, or raise if it cannot be inverted."""

    def check(self, cube: Any, /) -> Any:
        """Refuse a cube that the model was not made for; return which dates it changes."""

    def __call__(self, cube: Any, /, *, checked: Any = None, **others: Any) -> Any:
        """Return the cube in the target's bandpass.

        Parameters
        ----------
        cube : cube
            The first of `sources`.
        checked : optional
            Result of `check` for these dates; by default they are checked here.
        **others : cube
            The other `sources`, by name.
        """


@runtime_checkable
class TableMaker(Protocol):
    """A model that makes look-up tables from histograms; see `fit_tables`."""

    def fit_tables(
        self,
        cube: Any,
        *,
        tile: float | None = None,
        interpolate: bool = False,
        min_valid: float = 0.0,
    ) -> xr.Dataset:
        """Make one look-up table per date, tile and band; lazy."""


@runtime_checkable
class Regridder(Protocol):
    """A model that brings a cube to the grid of the result in its own way, before it is applied."""

    def on_grid(self, cube: Any, **grid: Any) -> Any:
        """Regrid a decoded cube; `grid` is ``like=`` or ``resolution=`` of `xharmonize.regrid`.

        Without either, return the cube, or say why the model cannot be applied to it as it is.
        """


@dataclass(frozen=True, kw_only=True)
class Base(Shown):
    """Base class of harmonisers; subclasses define their scope and how dates are changed.

    Attributes
    ----------
    flags : bool
        Whether to return a Dataset with the companion ``flag`` (time, y, x), bits of `ResultFlag`:
        those of `tells` and those the cube had. A model that sets none gives zeros.
    """

    flags: bool = False
    options: ClassVar[tuple[str, ...]] = ("flags",)
    sources: ClassVar[tuple[str, ...]] = ("cube",)
    needs_like_bands: ClassVar[bool] = True
    tells: ClassVar[ResultFlag] = ResultFlag(0)
    """Bits of the companion ``flag`` that the model can set."""

    if TYPE_CHECKING:
        # Fields of some kinds, properties of others.
        @property
        def name(self) -> str:
            """Key in the registry, or the name of the fit."""

        @property
        def source_bandpass(self) -> str:
            """Bandpass it may be applied to; empty: any."""

        @property
        def target_bandpass(self) -> str:
            """Bandpass of the result."""

        @property
        def bands(self) -> tuple[str, ...]:
            """Source bands it can use."""

    @property
    def scope(self) -> Scope:
        """The observations it was made for: by default all in its source bandpass."""
        return Scope(
            name=self.name,
            target_bandpass=self.target_bandpass,
            source_bandpass=self.source_bandpass,
        )

    @property
    def title(self) -> str:
        """The name."""
        return self.name

    def summary(self) -> Mapping[str, str]:
        """Return name, direction, bands, sources and reference."""
        return {
            "name": self.name,
            "direction": f"{self.source_bandpass or 'any'} to {self.target_bandpass}",
            "takes": " ".join(self.bands),
            "gives": " ".join(self.target_bands),
            "other sources": " ".join(self.sources[1:]),
            "source": str(getattr(self, "citation", "")),
        }

    @abstractmethod
    def changed(self, cube: xr.Dataset, checked: Checked, **others: Any) -> xr.Dataset:
        """Return reflectance in the target's bandpass, with its uncertainty and flags.

        Parameters
        ----------
        cube : Dataset
            ``reflectance`` or digital numbers, optionally with ``uncertainty``.
        checked : Checked
            The dates, and which of them to change.
        **others : cube
            The other `sources`.

        Returns
        -------
        Dataset
            ``reflectance``; ``uncertainty`` if it was given and is propagated; ``flag`` if `flags`
            is True and the model sets any.
        """

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Bands of the result: by default those of the source."""
        return self.bands

    @property
    def needs_all_bands(self) -> bool:
        """False: bands are mapped one by one."""
        return False

    @property
    def target_platforms(self) -> tuple[str, ...]:
        """Empty: the target has a single bandpass."""
        return ()

    @property
    def bundle(self) -> Bundle | None:
        """None: it was not opened from a bundle."""
        return None

    def configured(self, **options: Any) -> Self:
        """Return the model with some options set.

        Raises
        ------
        ModelError
            If an option is not supported. None and False count as not given.
        """
        given = {name: v for name, v in options.items() if v is not None and v is not False}
        strange = sorted(set(given) - set(self.options))
        if strange:
            raise ModelError(
                f"model {self.name!r} takes no {', '.join(strange)}",
                cure=f"leave {' and '.join(f'{name}=' for name in strange)} out",
            )
        return replace(self, **given) if given else self

    def inverse(self) -> Harmonizer:
        """Raise: only published coefficients and Deming regressions can be inverted."""
        raise wrong_direction(self, self.source_bandpass)

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> Checked:
        """Refuse a cube that the model was not made for; return which dates it changes.

        Raises
        ------
        RadiometryError
            If the bandpass, sensor, level or platform of a date is not one the model was made for.
        BandError
            If the cube lacks a band that the model requires.
        """
        steps, scope = tuple(read_contract(cube)), self.scope
        is_due = tuple(scope.covers(step) for step in steps)
        if self.needs_all_bands and any(is_due):
            require_bands(cube, self.bands, what=f"model {self.name!r}")
        return Checked(steps=steps, is_due=is_due)

    def __call__(
        self, cube: base.Cube, /, *, checked: Checked | None = None, **others: Any
    ) -> base.Cube:
        """Return the cube in the target's bandpass; see `xharmonize.to_sensor`."""
        self._require_sources(others)
        checked = self.check(cube) if checked is None else checked
        return base.on_cube(
            cube,
            partial(self.changed, checked=checked, **others),
            carry=partial(self.carried, checked=checked),
            flags=self._flag_note() if self.flags else None,
            uncertainty=bool(getattr(self, "uncertainty", False)),
        )

    def carried(
        self, cube: xr.Dataset, result: xr.Dataset, checked: Checked
    ) -> Mapping[str, xr.DataArray]:
        """Companions of a cube, except ``uncertainty``, for the bands and grid of its result."""
        return carry_companions(
            cube,
            result["band"].values,
            sources=self.renamed(checked),
            is_changed=base.is_bandpass_changed(cube, result),
        )

    def renamed(self, checked: Checked) -> Mapping[str, str]:  # noqa: ARG002
        """Source band of each band of the result that has a different name."""
        return {}

    def _require_sources(self, others: Iterable[str]) -> None:
        wanted, given = set(self.sources[1:]), set(others)
        if wanted != given:
            more = "".join(f", {name}=..." for name in self.sources[1:])
            raise ModelError(
                f"model {self.name!r} is applied to {', '.join(self.sources)}",
                cure=f"call it with them: model({self.sources[0]}{more})",
            )

    def _flag_note(self) -> str:
        known = [str(flag.name).lower() for flag in ResultFlag if flag in self.tells]
        return (
            f"{self.name} tells {', '.join(known) or 'nothing of single values'}; other bits are "
            "those the cube had, and 0 where nobody looked"
        )


def wrong_direction(harmonizer: Any, wanted: str) -> ModelError:
    """The error of a model that does not lead to the requested bandpass."""
    return ModelError(
        f"model {harmonizer.name!r} goes from {harmonizer.source_bandpass or 'any bandpass'} to "
        f"{harmonizer.target_bandpass}, not to {wanted}",
        cure="choose another model, or refit with the roles swapped",
    )


@dataclass(frozen=True, kw_only=True)
class Fitted(Base):
    """Base class of harmonisers that apply a fit, described by its attributes."""

    fit: xr.Dataset

    @property
    def scope(self) -> Scope:
        """Scope stated by the attributes of the fit."""
        return Scope.of_fit(self.fit, self.name)

    @property
    def source_bandpass(self) -> str:
        """Bandpass of the source used for fitting; empty: any."""
        return str(self.fit.attrs.get("source_bandpass", ""))

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the target used for fitting."""
        return str(self.fit.attrs["target_bandpass"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands of the fit."""
        return self._axis("source_band" if self.needs_all_bands else "band")

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Target bands of the fit."""
        return self._axis("target_band" if "target_band" in self.fit.coords else "band")

    @property
    def needs_all_bands(self) -> bool:
        """Whether each target band depends on several source bands."""
        return "source_band" in self.fit.dims

    @property
    def min_valid(self) -> float:
        """Minimum valid fraction of a target pixel [1] when regridding first."""
        return float(self.fit.attrs.get("min_valid", 0.5))

    @property
    def changes_grid(self) -> bool:
        """False: fits are applied on the cube's own grid."""
        return False

    def _axis(self, name: str) -> tuple[str, ...]:
        return tuple(map(str, self.fit[name].values))


@dataclass(frozen=True, kw_only=True)
class OfBundle(Base):
    """Base class of harmonisers that apply the network of a bundle, described by its card.

    Attributes
    ----------
    ref : ModelRef
        Reference to the bundle.
    card : Card
        Description of the model.
    runtime : Runtime, optional
        Device, precision and batch size that workers use.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "runtime")
    ref: ModelRef
    card: Card
    runtime: Runtime | None = None

    @property
    def bundle(self) -> Bundle:
        """Reference and card."""
        return Bundle(ref=self.ref, card=self.card)

    @property
    def scope(self) -> Scope:
        """Scope stated by the card."""
        return Scope.of_card(self.card)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to; empty: any."""
        return self.card.source_bandpass

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the result."""
        return self.card.target_bandpass

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the network needs."""
        return self.card.bands

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Bands of the network's output."""
        return self.card.output.bands

    @property
    def needs_all_bands(self) -> bool:
        """True: a network needs all its inputs."""
        return True

    @property
    def min_valid(self) -> float:
        """Minimum valid fraction of an output pixel's own inputs [1]."""
        return self.card.min_valid

    @property
    def title(self) -> str:
        """Title of the card."""
        return self.card.title

    def summary(self) -> Mapping[str, str]:
        """Return what the card says of itself, and the digest of the bundle."""
        return {**self.card.summary(), "sha256": self.ref.digest}

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "w-",
        storage_options: Mapping[str, Any] | None = None,
    ) -> ModelRef:
        """Write the bundle to a new folder or URL, or replace a bundle in a folder with ``"w"``."""
        return copy_bundle(
            self.ref, path, card=self.card, mode=mode, storage_options=storage_options
        )


Model: TypeAlias = str | os.PathLike[str] | Harmonizer | Callable[[Any], Any] | xr.Dataset
"""Name of a built-in model, path of a saved fit, a fit, or a function from cube to cube."""
