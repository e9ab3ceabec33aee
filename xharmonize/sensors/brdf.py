"""BRDF parameters of the c-factor approach to nadir reflectance.

References
----------
Roy et al. (2016), Remote Sensing of Environment 176, doi:10.1016/j.rse.2016.01.023, as used in
HLS v2, which gives B08 and B8A the same near-infrared parameters and interpolates the red edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class BrdfParameters:
    """Weights of the isotropic, volumetric (RossThick) and geometric (LiSparse-R) kernels."""

    iso: float
    vol: float
    geo: float


def _p(iso: float, vol: float, geo: float) -> BrdfParameters:
    return BrdfParameters(iso=iso, vol=vol, geo=geo)


C_FACTOR: Mapping[str, BrdfParameters] = MappingProxyType(
    {
        "blue": _p(0.0774, 0.0372, 0.0079),
        "green": _p(0.1306, 0.0580, 0.0178),
        "red": _p(0.1690, 0.0574, 0.0227),
        "rededge1": _p(0.2085, 0.0845, 0.0256),
        "rededge2": _p(0.2316, 0.1003, 0.0273),
        "rededge3": _p(0.2599, 0.1197, 0.0294),
        "nir": _p(0.3093, 0.1535, 0.0330),
        "nir08": _p(0.3093, 0.1535, 0.0330),
        "swir16": _p(0.3430, 0.1154, 0.0453),
        "swir22": _p(0.2658, 0.0639, 0.0387),
    }
)
"""Global c-factor parameters by common band name."""

CITATION = "Roy et al. (2016), doi:10.1016/j.rse.2016.01.023"
