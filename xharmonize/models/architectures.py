"""Registry of architectures, validation of hyperparameters, and networks built from weights.

A bundle names its architecture; nothing in a bundle is ever executed. A third party adds one by
`register_architecture`, or for every process by an entry point of the group
``xharmonize.architectures``::

    [project.entry-points."xharmonize.architectures"]
    my-network = "my_package.networks:from_card"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

import numpy as np

from xharmonize._optional import require
from xharmonize.errors import ModelError, UnknownModelError, suggest
from xharmonize.models.card import Card
from xharmonize.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Allowed values of one hyperparameter, whose type is that of the default.

    Attributes
    ----------
    default : bool, int, float or str
        Value if the card gives none.
    low, high : float
        Limits of a number, inclusive.
    choices : tuple of str
        Allowed strings.
    """

    default: bool | int | float | str
    low: float = float("-inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        """Whether `value` has the type of the default and is within the limits."""
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, str):
            return value in self.choices
        kinds = (int, float) if isinstance(self.default, float) else (int,)
        return isinstance(value, kinds) and self.low <= value <= self.high

    @property
    def wanted(self) -> str:
        """Description of allowed values, for messages."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "one of " + ", ".join(map(repr, self.choices))
        kind = "a number" if isinstance(self.default, float) else "a whole number"
        return f"{kind} from {self.low:g} to {self.high:g}"


def read_hyperparameters(card: Card, allowed: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return all hyperparameters of an architecture, from the card or by default.

    Raises
    ------
    ModelError
        If the card has an unknown hyperparameter, or a value out of bounds.
    """
    unknown = sorted(set(card.hyperparameters) - set(allowed))
    if unknown:
        raise ModelError(
            f"architecture {card.architecture!r} has no hyperparameter {unknown[0]!r}",
            cure=f"it has {', '.join(sorted(allowed))}",
        )
    values = {name: rule.default for name, rule in allowed.items()} | dict(card.hyperparameters)
    for name, rule in allowed.items():
        if not rule.accepts(values[name]):
            raise ModelError(
                f"{card.architecture!r} cannot have {name}={values[name]!r}",
                cure=f"give {rule.wanted}",
            )
    return values


GROUP = "xharmonize.architectures"
"""Entry point group of third parties' architectures."""

Factory: TypeAlias = Callable[[Card], Any]
"""Makes the `torch.nn.Module` of a card, with weights still to be set."""

_NETS = "xharmonize.models.nets"
_BUILT_IN = {
    name: EntryPoint(name, f"{_NETS}.{name.replace('-', '_')}:from_card", GROUP)
    for name in (
        "dcstfn",
        "dstfn",
        "esrcnn",
        "global-lut",
        "mgan-unet",
        "pix2pix",
        "resnet-generator",
        "small-conv",
        "unet-lut",
    )
}
_REGISTERED: dict[str, Factory] = {}
_N_SHOWN = 3


def register_architecture(name: str, factory: Factory, *, replace: bool = False) -> None:
    """Register an architecture by name, in this process.

    Parameters
    ----------
    name : str
        Name used in cards.
    factory : callable
        Takes a `Card` and returns a `torch.nn.Module` whose ``forward`` takes one tensor per input
        of the card, in that order, as defined by the card's kind.
        It is called on the meta device, so all tensors must be parameters or persistent buffers.
        The network must not modify its inputs, which may belong to the caller.
    replace : bool
        Whether to replace the factory of a registered name.

    Raises
    ------
    ModelError
        If the name is taken.
    """
    if not replace and name in architectures():
        raise ModelError(
            f"architecture {name!r} exists", cure="choose another name or give replace=True"
        )
    _REGISTERED[name] = factory


def architectures() -> list[str]:
    """Return the names of all architectures: built in, registered, and from entry points."""
    return sorted({*_BUILT_IN, *_REGISTERED, *entry_points(group=GROUP).names})


def find_architecture(name: str) -> Factory:
    """Return the factory of an architecture.

    Raises
    ------
    UnknownModelError
        If the name is not registered.
    ModelError
        If the entry point of a third party cannot be loaded.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    points = [_BUILT_IN[name]] if name in _BUILT_IN else list(entry_points(group=GROUP, name=name))
    if not points:
        raise UnknownModelError(
            f"no architecture {name!r} is registered",
            cure=f"{suggest(name, architectures())}known are "
            f"{', '.join(architectures())}. Install the package that brings it (entry point group "
            f"{GROUP!r}), or call xharmonize.models.architectures.register_architecture",
            value=name,
        )
    require("torch", extra="train")
    factory: Factory = load_announced(points[0], "architecture")
    return factory


def load_announced(point: EntryPoint, what: str) -> Any:
    """Load an entry point of an installed package.

    Raises
    ------
    ModelError
        If it cannot be loaded.
    """
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{what} {point.name!r} is announced as {point.value!r}, which cannot be loaded: "
            f"{error}",
            cure="install that package anew",
        ) from error


def build_empty(card: Card) -> Any:
    """Return the network of a card on the meta device: shapes without memory.

    Raises
    ------
    UnknownModelError
        If the architecture is not registered.
    ModelError
        If the hyperparameters are not allowed, or the factory returns no network.
    """
    torch = require("torch", extra="train")
    factory = find_architecture(card.architecture)
    with torch.device("meta"):
        network = factory(card)
    if not isinstance(network, torch.nn.Module):
        raise ModelError(
            f"architecture {card.architecture!r} gave a {type(network).__name__}",
            cure="its factory has to return a torch.nn.Module",
        )
    return network


def build(card: Card, weights: Mapping[str, AnyArray]) -> Any:
    """Build the network of a card with its weights, on the CPU, ready to predict.

    Names, shapes and dtypes are compared before memory is allocated, so that a card with absurd
    hyperparameters costs nothing, and one whose bands differ from the weights is refused.

    Parameters
    ----------
    card : Card
        Bands, hyperparameters and name of the architecture.
    weights : mapping of str to array
        Every parameter and buffer of the network. Writable arrays are shared, not copied.

    Returns
    -------
    torch.nn.Module
        In evaluation mode: no dropout, fixed batch statistics.

    Raises
    ------
    UnknownModelError
        If the architecture is not registered.
    ModelError
        If the hyperparameters are not allowed, or the weights don't match the network.
    """
    network = build_empty(card)
    _require_same(card, network.state_dict(), weights)
    torch = require("torch", extra="train")
    tensors = {
        name: torch.from_numpy(np.require(weights[name], requirements=["C", "W"]))
        for name in network.state_dict()
    }
    network.load_state_dict(tensors, strict=True, assign=True)
    left = [name for name, value in network.named_buffers() if value.is_meta]
    if left:
        raise ModelError(
            f"buffer {left[0]!r} of architecture {card.architecture!r} is not among its weights",
            cure="register it as persistent",
        )
    return network.eval()


def seeded(card: Card, seed: int = 0) -> dict[str, AnyArray]:
    """Return Glorot-uniform weights for a card's network, for tests, benchmarks and training.

    Raises
    ------
    UnknownModelError, ModelError
        As `build_empty`.
    """
    from xharmonize.models.nets.layers import glorot_uniform

    return glorot_uniform(build_empty(card).state_dict(), seed)


def _require_same(card: Card, wanted: Mapping[str, Any], found: Mapping[str, AnyArray]) -> None:
    """Raise `ModelError` naming the first tensors that differ."""
    needs = {name: _describe(tensor) for name, tensor in wanted.items()}
    has = {name: _describe(array) for name, array in found.items()}
    wrong = [
        f"{name!r} is {has.get(name, 'missing')}, the network has {needs.get(name, 'none')}"
        for name in [*needs, *(extra for extra in has if extra not in needs)]
        if needs.get(name) != has.get(name)
    ]
    if wrong:
        more = f" (and {len(wrong) - _N_SHOWN} more)" if len(wrong) > _N_SHOWN else ""
        raise ModelError(
            f"the weights of {card.name!r} are not those of {card.architecture!r} with its bands "
            f"and hyperparameters: {'; '.join(wrong[:_N_SHOWN])}{more}. The card has to be the one "
            "that the weights were trained with"
        )


def _describe(tensor: Any) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
