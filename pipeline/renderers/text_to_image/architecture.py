"""What the folder of a diffusers pipeline tells about it, before any weight is loaded."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import diffusers

from manifests.foundation.errors import ConfigError
from manifests.foundation.plugins import did_you_mean
from pipeline.errors import ModelError
from pipeline.models import ModelFiles
from pipeline.renderers.text_to_image.guidance import Guidance, guidance_of

_REQUIRED_ARGUMENTS = ("prompt", "guidance_scale", "generator", "num_inference_steps")
_SWITCHED_OFF = {"clean_caption": False, "use_resolution_binning": False}
"""Arguments that some pipelines turn on by default: the first rewrites the caption, the second
renders at another size than the one asked for."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Pipeline class, call and sizes of a model.

    Raises:
        ModelError: Not a text-to-image pipeline that the installed diffusers knows.
    """

    model: ModelFiles

    def __post_init__(self) -> None:
        for argument in _REQUIRED_ARGUMENTS:
            if argument not in self.call:
                raise ModelError(
                    f"{self.model.folder}: {self.pipeline_name} takes no {argument}; "
                    "a text-to-image pipeline does"
                )

    @cached_property
    def pipeline_class(self) -> Any:
        """The class that the model's index names."""
        name = self.model.index.get("_class_name", "")
        pipeline = getattr(diffusers, name, None) if isinstance(name, str) else None
        if pipeline is None:
            raise ModelError(
                f"{self.model.folder}: {name!r} is no pipeline of diffusers {diffusers.__version__}"
                "; install a version that knows it"
            )
        return pipeline

    @property
    def pipeline_name(self) -> str:
        return str(self.pipeline_class.__name__)

    @cached_property
    def call(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of a call of the pipeline, by name."""
        return inspect.signature(self.pipeline_class.__call__).parameters

    @property
    def switched_off(self) -> dict[str, bool]:
        """Those of `_SWITCHED_OFF` that this pipeline takes; every call passes them."""
        return {name: off for name, off in _SWITCHED_OFF.items() if name in self.call}

    def scheduler_class(self, requested: str | None) -> Any:
        """The scheduler's class: the requested one, or the model's own for None.

        Raises:
            ConfigError: No such scheduler, or one that does not fit the model.
        """
        own = self.model.index["scheduler"][1]
        name = requested or own
        known = [member for member in dir(diffusers) if member.endswith("Scheduler")]
        if name not in known:
            raise ConfigError(f"no scheduler {name!r} in diffusers{did_you_mean(name, known)}")
        compatible = set(getattr(getattr(diffusers, own), "_compatibles", ()))
        if name != own and name not in compatible:
            raise ConfigError(
                f"scheduler {name} does not fit a model made for {own}; these do: "
                f"{', '.join(sorted(compatible)) or own}"
            )
        return getattr(diffusers, name)

    @property
    def _network(self) -> dict[str, Any]:
        return self.model.part_config("unet") or self.model.part_config("transformer")

    @property
    def _downsampling(self) -> int:
        """Width of the picture divided by the width of its latent."""
        vae = self.model.part_config("vae")
        widths = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [1] * 4
        # Each block of a VAE but the last halves the width; 8 where it does not say its blocks.
        return int(2 ** (len(widths) - 1))

    def size_px(self, requested: int | None) -> int:
        """Width and height of a picture: the requested size, or the model's own for None.

        Raises:
            ConfigError: The model cannot render this size, because a side would not be a whole
                number of latents; or it states no size of its own.
        """
        size = requested
        if size is None:
            latent_size = self._network.get("sample_size")
            if not isinstance(latent_size, int):
                raise ConfigError(f"{self.model.folder}: does not say its size; give --size")
            size = latent_size * self._downsampling
        if size % self._downsampling:
            raise ConfigError(
                f"size {size} px: this model renders multiples of {self._downsampling} px; give "
                "another --size"
            )
        return size

    @cached_property
    def guidance(self) -> Guidance:
        """How this model is guided."""
        return guidance_of(self.pipeline_name, self._network, self.model.index)

    def check_guidance(self, scales: Iterable[float], has_negative_prompts: bool) -> None:
        """Refuse scales and negative prompts that the model would ignore. Raises ConfigError."""
        guidance, scales = self.guidance, list(scales)
        if guidance.kind == "none" and any(scale > 1 for scale in scales):
            raise ConfigError(
                f"guidance: {self.pipeline_name} with this model ignores it; give --guidance 0"
            )
        if not has_negative_prompts:
            return
        # A network that takes the scale as an input makes no second pass with another prompt.
        if "negative_prompt" not in self.call or guidance.kind != "classifier-free":
            raise ConfigError(
                f"a negative prompt: {self.pipeline_name} with this model ignores it; drop it"
            )
        if not any(map(guidance.is_guided, scales)):
            raise ConfigError(
                "a negative prompt steers nothing without guidance; give a --guidance above "
                f"{guidance.none:g} or drop the negative prompt"
            )
