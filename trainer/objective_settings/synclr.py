"""What SynCLR is set by and asks of a batch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from manifests.foundation.settings import Table
from trainer.objective_settings import Arrangement, CropSpec

_Area = Annotated[float, Field(gt=0, le=1)]
_Temperature = Annotated[float, Field(gt=0)]


class SynclrConfig(Table):
    """Table [objective]; the defaults are the paper's, and where it is silent the authors' code's.

    The scale of the large crops is `augment.crop_scale`.
    """

    name: Literal["synclr"] = "synclr"
    temperature: float = Field(default=0.08, gt=0)
    head_hidden: int = Field(default=4096, ge=1)
    head_out: int = Field(default=256, ge=1)
    momentum: float = Field(default=0.994, ge=0, lt=1)
    """Part of the teacher that stays after the first step; half a cosine raises it to 1."""
    crops: int = Field(default=1, ge=1)
    """Large crops of each view."""
    local_crops: int = Field(default=4, ge=0)
    """Small crops of each view, which the student alone sees."""
    local_size: float = Field(default=96 / 224, gt=0, le=1)
    """Side of a small crop as a fraction of `model.input_px`."""
    local_scale: tuple[_Area, _Area] = (0.08, 0.32)
    """Area of a small crop as a part of the view's."""
    local_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss of the small crops beside that of the large ones."""
    patch_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of hidden patches; 0 hides none."""
    masked_crops: float = Field(default=0.5, gt=0, le=1)
    """Part of the large crops of each group of which patches are hidden."""
    masked_patches: float = Field(default=0.5, gt=0, lt=1)
    """Part of their patches that is hidden."""
    prototypes: int = Field(default=65_536, ge=2)
    patch_hidden: int = Field(default=2048, ge=1)
    patch_bottleneck: int = Field(default=256, ge=1)
    patch_temperature: float = Field(default=0.1, gt=0)
    """Of the student's distribution over prototypes."""
    teacher_temperature: tuple[_Temperature, _Temperature] = (0.04, 0.07)
    """Of the teacher's, in the first step and after the warm-up."""
    teacher_warmup_steps: int = Field(default=4000, ge=0)
    """Steps in which the second grows out of the first, on a straight line."""
    exported: Literal["teacher", "student"] = "teacher"
    """Which tower a run keeps. The paper does not say which one it evaluates; DINO and iBOT, whose
    parts it takes, evaluate the teacher."""


class SynclrSettings:
    """Of `trainer.objectives.synclr.Synclr`; see ObjectiveSettings."""

    Config: ClassVar[type[SynclrConfig]] = SynclrConfig

    @classmethod
    def arrangement(cls, config: SynclrConfig) -> Arrangement:
        large = CropSpec(count=config.crops)
        small = CropSpec(
            count=config.local_crops,
            size=config.local_size,
            augment={"crop_scale": config.local_scale},
        )
        return Arrangement(
            crops=(large, small) if config.local_crops else (large,),
            min_views=2,
            reads=frozenset({"draws"} if config.patch_weight else ()),
        )
