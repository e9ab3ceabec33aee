"""A kind of model from outside the package, all of it in this file: a gain per band and pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.errors import ModelError
from xharmonize.harmonizers.registry import FunctionHarmonizer
from xharmonize.models import Card, ModelRef, Runtime, register_kind
from xharmonize.models.architectures import register_architecture
from xharmonize.models.bundle import Bundle
from xharmonize.models.card import Call, Shapes, Within


@register_kind
@dataclass(frozen=True, kw_only=True)
class GainCard(Card):
    """Reflectance times a trained gain, and times `exposure`."""

    kind: ClassVar[str] = "gain"
    harmonizer: ClassVar[str] = f"{__name__}:open_gain"
    exposure: Annotated[float, Within(0.1, 10)] = 1.0

    @property
    def bands(self) -> tuple[str, ...]:
        return self.output.bands

    @property
    def result(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        return (len(self.bands), 1, 1), ("band", "height", "width")

    def facts(self) -> dict[str, str]:
        return {**super().facts(), "exposure": f"{self.exposure:g}"}

    def _same(self, shapes: Shapes) -> tuple[int, ...]:
        if len(shapes) != 1 or shapes[0][1] != len(self.bands):
            raise ModelError(f"{self.name!r} takes {len(self.bands)} bands, not {list(shapes)}")
        return shapes[0]

    forward: ClassVar[Call] = Call(method="forward", answer=_same)


@dataclass(frozen=True, kw_only=True)
class GainHarmonizer(FunctionHarmonizer):
    """Cube to cube, lazily."""

    ref: ModelRef
    card: GainCard

    @property
    def bundle(self) -> Bundle:
        """Reference and card."""
        return Bundle(ref=self.ref, card=self.card)


def open_gain(*, ref: ModelRef, card: GainCard) -> GainHarmonizer:
    return GainHarmonizer(
        ref=ref,
        card=card,
        function=partial(apply_gain, ref=ref, card=card),
        name=card.name,
        source_bandpass=card.source_bandpass,
        target_bandpass=card.target_bandpass,
        bands=card.bands,
    )


def apply_gain(array: xr.DataArray, *, ref: ModelRef, card: GainCard) -> xr.DataArray:
    block = partial(_gain_block, ref=ref, card=card)
    return xr.apply_ufunc(
        block, array, dask="parallelized", output_dtypes=[np.float32], keep_attrs=True
    )


def _gain_block(values: Any, *, ref: ModelRef, card: GainCard) -> Any:
    from xharmonize.models.runtime import predict

    (result,) = predict(ref, card, [[np.ascontiguousarray(values, np.float32)]], Runtime())
    return result


def from_card(card: GainCard) -> Any:
    import torch

    class Gain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(len(card.bands)))

        def forward(self, image: Any) -> Any:
            return image * self.gain[:, None, None] * card.exposure

    return Gain()


register_architecture("gain", from_card, replace=True)
