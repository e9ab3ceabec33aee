"""Errors and warnings.

Every error of this package derives from `XHarmonizeError` and from the builtin that fits, so that
``except ValueError`` and ``except xh.errors.XHarmonizeError`` both work.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# Controls of a terminal (line feed and tab apart), what turns the direction of writing round, and
# halves of surrogate pairs, which no terminal or file can be given.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

_SHOWN = 80


def printable(text: object) -> str:
    r"""Return text that can be shown anywhere; control characters are spelt as Python spells them.

    Examples
    --------
    >>> print(printable("S2A" + chr(27) + "[31m"))
    S2A\x1b[31m
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(text))


def show(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; an integer of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def nearest(name: object, known: Iterable[str], spellings: Mapping[str, str] | None = None) -> str:
    """Return which known name was probably meant; empty where none comes near.

    Case, separators and leading zeros of numbers count for nothing. A name that differs in its
    numbers only is another thing (``nir09`` is not nearly ``nir08``), and so is one that other
    spellings stand for.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of str
        Names it could be.
    spellings : mapping of str to str, optional
        Other names, and the name that each of them stands for.

    Examples
    --------
    >>> nearest("Sentinel2", ["landsat-c2-l2", "sentinel-2-l2a"])
    'sentinel-2-l2a'
    >>> nearest("B04", ["red", "nir08"], {"B4": "red", "B8A": "nir08"})
    'red'
    """
    names, spellings = list(known), spellings or {}
    if name in spellings.values():
        return ""
    bare = {_bare(spelt): meant for spelt, meant in spellings.items() if meant in names}
    bare |= {_bare(one): one for one in names}
    wanted = _bare(name)
    if wanted in bare:
        return bare[wanted]
    shape = re.sub(r"\d+", "0", wanted)
    others = [one for one in bare if re.sub(r"\d+", "0", one) != shape]
    close = get_close_matches(wanted, others, n=1) if len(wanted) > 2 else []
    return bare[close[0]] if close else ""


def _bare(name: object) -> str:
    return re.sub(r"[\W_]+|(?<!\d)0+(?=\d)", "", str(name).lower())


def suggest(name: object, known: Iterable[str], spellings: Mapping[str, str] | None = None) -> str:
    """Return the beginning of a cure, ``did you mean 'red'? ``; empty where no name is near."""
    near = nearest(name, known, spellings)
    return f"did you mean {near!r}? " if near else ""


class XHarmonizeError(Exception):
    """Base of all errors raised by this package.

    The message is worded from the fields: ``argument=value what; cure``.

    Attributes
    ----------
    what : str
        What was wrong; it goes on from the argument or the item where there is one.
    cure : str
        What to do about it; empty where that is plain.
    argument : str
        The argument at fault, as it is spelt in Python; empty where none is.
    value : object
        What the argument was given.
    item : str
        Id of the STAC item at fault; empty where none is.
    """

    def __init__(
        self,
        what: str = "",
        *,
        cure: str = "",
        argument: str = "",
        value: object = None,
        item: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.cure = what, cure
        self.argument, self.value, self.item = argument, value, item

    @property
    def subject(self) -> str:
        """What the message is about: the argument with its value, or the item; may be empty."""
        if self.argument:
            return f"{self.argument}={self.value!r}"
        return f"item {self.item!r}" if self.item else ""

    def __str__(self) -> str:
        """Return the message unquoted (`KeyError` would print its `repr`), fit for a terminal."""
        return worded(self.subject, self.what, self.cure)


def worded(subject: str, what: str, cure: str) -> str:
    """Return the message of an error, fit for a terminal; `subject` and `cure` may be empty."""
    gap = " " if subject and what and what[0] not in ":,'" else ""
    return printable(f"{subject}{gap}{what}" + (f"; {cure}" if cure else ""))


class ContractError(XHarmonizeError, ValueError):
    """A cube lacks, has lost or contradicts its radiometric contract."""


class RadiometryError(XHarmonizeError, ValueError):
    """Scale, offset, baseline or level are absent, contradictory or do not fit the request."""


class SensorError(XHarmonizeError, ValueError):
    """A product that cannot be registered as it is."""


class UnknownSensorError(XHarmonizeError, KeyError):
    """A sensor or platform name nobody registered."""


class BandError(XHarmonizeError, KeyError):
    """A band is missing, or is not the one a coefficient was made for."""


class MaskError(XHarmonizeError, ValueError):
    """A mask name the quality layer does not know, or a quality layer that is not there."""


class GridError(XHarmonizeError, ValueError):
    """CRS, resolution, phase or extent are missing or do not fit together."""


class TimeAxisError(XHarmonizeError, ValueError):
    """Dates are missing, unsorted or duplicated where that matters."""


class OptionError(XHarmonizeError, ValueError):
    """An option has a value that it cannot have; the message says which it can."""


def require_fraction(
    value: float, *, argument: str, error: type[XHarmonizeError] = OptionError
) -> None:
    """Raise unless an argument is a fraction, from 0 to 1."""
    if not 0 <= value <= 1:
        raise error(
            "is no fraction", cure="give a number from 0 to 1", argument=argument, value=value
        )


class CatalogError(XHarmonizeError, ValueError):
    """A STAC source cannot be read as asked."""


class EmptyQueryError(CatalogError, LookupError):
    """A STAC query matched no item."""


class CatalogConnectionError(XHarmonizeError, ConnectionError):
    """A STAC API cannot be reached."""


class AssetReadError(XHarmonizeError, OSError):
    """The pixels of an asset cannot be read; the message names the item and the asset."""


class ModelError(XHarmonizeError, ValueError):
    """A model does not fit the cube, or its bundle is missing, damaged or too new."""


class UnknownModelError(XHarmonizeError, KeyError):
    """A model name nobody registered."""


class FitError(XHarmonizeError, ValueError):
    """Too few or unfit samples to fit a harmoniser."""


class MetricError(XHarmonizeError, ValueError):
    """A metric is not defined for the data or options given, or statistics do not fit together."""


class UnknownMetricError(XHarmonizeError, KeyError):
    """A metric name nobody registered; the message names the nearest."""


class StoreError(XHarmonizeError, ValueError):
    """A store does not fit what is to be written to it, or is not one of ours."""


class ClusterError(XHarmonizeError, RuntimeError):
    """A Dask cluster has no workers, is closed, or cannot be had as asked for."""


class MissingDependencyError(XHarmonizeError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class XHarmonizeWarning(UserWarning):
    """Base of all warnings of this package."""

    def __str__(self) -> str:
        """Return the message, fit for a terminal."""
        return printable(super().__str__())


class RadiometryWarning(XHarmonizeWarning):
    """Metadata left something open that was settled by a rule; the message says how."""


class GridWarning(XHarmonizeWarning):
    """A grid is too coarse for what is asked of it; the message says for how much of it."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the caller, the first outside this package."""
    own = os.path.dirname(__file__) + os.sep
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
