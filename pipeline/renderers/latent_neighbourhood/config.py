"""What a user sets of the renderer `latent-neighbourhood`, and the columns that its rows have."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from manifests.columns import DeclaredColumn
from manifests.foundation.settings import Table
from manifests.latents import LATENT

Neighbourhood = Literal["gaussian", "angular", "independent", "steering"]

CLASS_INDEX = DeclaredColumn(
    "class_index", "int64", "class that the generator is given; -1 for none", scope="subject"
)
_SET = (
    DeclaredColumn("neighbourhood", "string", "how views leave their anchor", scope="set"),
    DeclaredColumn(
        "truncation", "double", "bound of each number of a latent; 0: none", scope="set"
    ),
)
_OF_NEIGHBOURHOOD: dict[Neighbourhood, tuple[DeclaredColumn, ...]] = {
    "gaussian": (
        DeclaredColumn("sigma", "double", "scale of the step from the anchor", scope="variation"),
    ),
    "angular": (
        DeclaredColumn("angle", "double", "between anchor and view", "degrees", scope="variation"),
    ),
    "independent": (),
    "steering": (
        DeclaredColumn("direction", "string", "learned direction of the step", scope="variation"),
        DeclaredColumn("amount", "double", "length of the step, in learned ranges", scope="view"),
    ),
}


class LatentNeighbourhoodConfig(Table):
    """Table [renderer] of a recipe."""

    name: Literal["latent-neighbourhood"] = "latent-neighbourhood"
    generator: str = "embedded"
    """`embedded`; a file of torch.export (.pt2), ONNX (.onnx) or TorchScript (any other name) with
    G(z) or G(z, class); or the folder of an unconditional or class-conditional diffusers
    pipeline. A file NAME.json beside NAME.pt2 may state the next three keys."""
    latent_dim: int | None = Field(default=None, ge=1, le=65_536)
    """Numbers of a latent; read from the file where it says so."""
    classes: int | None = Field(default=None, ge=0, le=1_000_000)
    """Classes that the generator knows, 0 for none; read from the file where it says so."""
    values: Literal["-1 to 1", "0 to 1"] | None = None
    """Range of the pixels that the generator gives."""
    neighbourhood: Neighbourhood = "gaussian"
    sigma: tuple[float, ...] = Field(default=(0.2,), min_length=1)
    """Of `gaussian`, dealt over the views of each anchor in turn; 0 is the anchor itself. For a
    diffusion pipeline the step keeps the variance, and 1 is an independent picture."""
    angle: tuple[float, ...] = Field(default=(15.0,), min_length=1)
    """Of `angular`, in degrees, dealt likewise."""
    directions: str = ""
    """Of `steering`: the file that `synth steer` wrote for this generator. `embedded` has one."""
    use: tuple[str, ...] = ()
    """Names of the directions that are used, dealt likewise; all of the file if empty."""
    amount: float = Field(default=1.0, gt=0, le=10)
    """Steps of `steering` are uniform from -amount to amount, in the ranges that were learned."""
    truncation: float = Field(default=0.0, ge=0, le=10)
    """Each number of a latent is within this bound; 0 for none, 2 as in GenRep."""
    keep_latents: bool = False
    """Keep each view's latent in its row, which the objective `inverter` learns to predict."""
    steps: int = Field(default=10, ge=1, le=1000)
    """Denoising steps of a diffusion pipeline, by DDIM."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Views computed at once; part of the set's identity (docs/adr/0004)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of one worker on the CPU; part of the set's identity as well."""

    @field_validator("sigma", "angle", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        """A single number means a list of one."""
        return (value,) if isinstance(value, int | float) else value

    @field_validator("sigma")
    @classmethod
    def _sigma(cls, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        for sigma in sigmas:
            if not 0 <= sigma <= 100:
                raise ValueError(f"a sigma of {sigma:g}; expected 0 to 100")
        return sigmas

    @field_validator("angle")
    @classmethod
    def _angle(cls, angles: tuple[float, ...]) -> tuple[float, ...]:
        for angle in angles:
            if not 0 <= angle <= 180:
                raise ValueError(f"an angle of {angle:g} degrees; expected 0 to 180")
        return angles

    @field_validator("generator", "directions")
    @classmethod
    def _absolute(cls, path: str) -> str:
        """The absolute path of what exists: a worker may have another working directory."""
        there = Path(path).expanduser()
        return str(there.absolute()) if path and there.exists() else path

    @model_validator(mode="after")
    def _used(self) -> "LatentNeighbourhoodConfig":
        """Refuse a setting that this neighbourhood would ignore."""
        keys = {"sigma": "gaussian", "angle": "angular", "directions": "steering"}
        keys |= {"use": "steering", "amount": "steering"}
        for key, neighbourhood in keys.items():
            if key in self.model_fields_set and self.neighbourhood != neighbourhood:
                default = type(self).model_fields[key].default
                if getattr(self, key) != default:
                    raise ValueError(f"{key} is of neighbourhood {neighbourhood} alone")
        return self

    def columns(self) -> tuple[DeclaredColumn, ...]:
        """The columns of a set with this neighbourhood."""
        latent = (LATENT,) if self.keep_latents else ()
        return (*_SET, CLASS_INDEX, *_OF_NEIGHBOURHOOD[self.neighbourhood], *latent)
