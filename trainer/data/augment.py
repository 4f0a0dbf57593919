"""How crops are to be drawn and coloured, as a recipe says it; without torch."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from manifests.foundation.settings import Table


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError("the first is larger than the second")
    return values


_Area = Annotated[float, Field(gt=0, le=1)]
_Ratio = Annotated[float, Field(gt=0, le=100)]
_Sigma = Annotated[float, Field(ge=0, le=100)]
_Ascending = AfterValidator(_ascending)
CropScale = Annotated[tuple[_Area, _Area], _Ascending]
CropRatio = Annotated[tuple[_Ratio, _Ratio], _Ascending]


class AugmentConfig(Table):
    """Table [augment]; the defaults are those of StableRep at 224 px."""

    crop_scale: CropScale = (0.08, 1.0)
    """Area of the crop as a part of the view's."""
    crop_ratio: CropRatio = (0.75, 1.3333333333333333)
    """Width over height of the crop."""
    flip_prob: float = Field(default=0.5, ge=0, le=1)
    jitter_prob: float = Field(default=0.8, ge=0, le=1)
    brightness: float = Field(default=0.4, ge=0, le=1)
    contrast: float = Field(default=0.4, ge=0, le=1)
    saturation: float = Field(default=0.4, ge=0, le=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    grey_prob: float = Field(default=0.2, ge=0, le=1)
    blur_prob: float = Field(default=0.5, ge=0, le=1)
    blur_sigma_px: Annotated[tuple[_Sigma, _Sigma], _Ascending] = (0.1, 2.0)
    """Standard deviation of the blur, in px of the crop."""
    downsample_prob: float = Field(default=0.0, ge=0, le=1)
    """StableRep uses 0.05 in its runs with downsampling."""
    downsample_px: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(64, 128), min_length=1)
    """Sizes of the shorter side, one of which is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSet:
    """One set of crops, drawn with the same settings from every view."""

    count: int
    """Crops of each view."""
    input_px: int
    """Side of a crop."""
    augment: AugmentConfig
