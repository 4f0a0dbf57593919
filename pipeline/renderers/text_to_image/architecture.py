"""What the folder of a diffusers pipeline tells about it, before any weight is loaded."""

import inspect
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from manifests.foundation.errors import ConfigError
from manifests.foundation.plugins import did_you_mean
from pipeline.errors import ModelError
from pipeline.models import ModelFiles
from pipeline.renderers.text_to_image import source_text
from pipeline.renderers.text_to_image.guidance import Guidance, distilled_advice, guidance_of
from pipeline.renderers.text_to_image.guidance_interval import GUIDED_AS_ONE_BATCH

_REQUIRED_ARGUMENTS = ("prompt", "generator", "num_inference_steps", "height", "width")
_STAGES = ("Prior", "Decoder", "Combined", "UnCLIP", "Refiner", "Upscale", "SuperResolution")
"""Parts of the names of classes that render in two stages, or are one of them."""
_SWITCHED_OFF = {
    "clean_caption": False,
    "enable_prompt_rewrite": False,
    "use_resolution_binning": False,
}
"""Arguments that some pipelines turn on by default: the first two rewrite the caption, the last
renders at another size than the one asked for."""

USUAL_SCALE = 2.0
"""StableRep's scale for its main results (arXiv:2306.00984, section 4)."""
MIXES_CAPTIONS = frozenset(
    {
        *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"),
        *("LatentConsistencyModelPipeline", "FluxPipeline", "ChromaPipeline"),
        *("PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline", "SanaSprintPipeline"),
        *("AuraFlowPipeline", "HunyuanDiTPipeline", "Flux2KleinPipeline"),
        *("Flux2Pipeline", "KolorsPipeline", "BriaPipeline", "CogView3PlusPipeline"),
        *("OvisImagePipeline", "Krea2Pipeline"),
    }
)
"""Classes whose pixels do not depend on the other captions of a call, if each is encoded alone:
tests/pipeline/test_families.py proves it. The others get one caption in a call."""

ONE_VIEW: Mapping[str, str] = {
    "PRXPipeline": "guides no more than one view at a time in diffusers 0.42.1",
    "GlmImagePipeline": "samples the layout of all views of a call from the seed of the first",
}
"""Classes of which a call makes one view, and why."""
_OPTIONAL = inspect.Parameter("image", inspect.Parameter.KEYWORD_ONLY, default=None)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Pipeline class, call and sizes of a model.

    Raises:
        ModelError: Not a text-to-image pipeline that the installed diffusers knows.
    """

    model: ModelFiles

    def __post_init__(self) -> None:
        name, call = self.pipeline_name, self.call
        if any(stage in name for stage in _STAGES) or (
            name.startswith(("Kandinsky", "Wuerstchen")) and "image_embeds" in call
        ):
            reason = "is one stage of two, or both; this renderer calls one pipeline of one stage"
        elif "strength" in call or call.get("image", _OPTIONAL).default is inspect.Parameter.empty:
            reason = "begins with a picture; a text-to-image pipeline takes a prompt alone"
        elif missing := [argument for argument in _REQUIRED_ARGUMENTS if argument not in call]:
            reason = f"takes no {missing[0]}; a text-to-image pipeline does"
        elif self.guidance.argument not in call:
            reason = f"takes no {self.guidance.argument}, so no row could say how it was guided"
        else:
            return
        raise ModelError(f"{self.model.folder}: {name} {reason}")

    @cached_property
    def pipeline_class(self) -> Any:
        """The class that the model's index names. To ask for it imports torch."""
        import diffusers

        name = self.model.index.get("_class_name", "")
        pipeline = getattr(diffusers, name, None) if isinstance(name, str) else None
        if pipeline is None:
            raise ModelError(
                f"{self.model.folder}: {name!r} is no pipeline of diffusers {diffusers.__version__}"
                "; install a version that knows it"
            )
        return pipeline

    @cached_property
    def pipeline_name(self) -> str:
        """Name of that class."""
        name = self.model.index.get("_class_name")
        if isinstance(name, str) and source_text.is_offered(name):
            return name
        return str(self.pipeline_class.__name__)

    @cached_property
    def call(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of a call of the pipeline, by name."""
        stated = source_text.call_of(self.pipeline_name)
        return stated or inspect.signature(self.pipeline_class.__call__).parameters

    @property
    def switched_off(self) -> dict[str, bool]:
        """Those of `_SWITCHED_OFF` that this pipeline takes; every call passes them."""
        return {name: off for name, off in _SWITCHED_OFF.items() if name in self.call}

    def scheduler_name(self, requested: str | None) -> str:
        """Name of the scheduler's class: the requested one, or the model's own for None.

        Raises:
            ConfigError: No such scheduler, or one that does not fit the model.
        """
        own = self.model.index.get("scheduler", [None, None])[1]
        if requested in (None, own) and isinstance(own, str) and source_text.is_offered(own):
            return own
        return str(self.scheduler_class(requested).__name__)

    def scheduler_class(self, requested: str | None) -> Any:
        """The class itself; the rest is as in `scheduler_name`. To ask for it imports torch."""
        import diffusers

        own = self.model.index.get("scheduler", [None, None])[1]
        if own is None:
            raise ModelError(f"{self.model.folder}: its index names no scheduler; copy the model")
        name = requested or own
        known = [member for member in dir(diffusers) if member.endswith("Scheduler")]
        if name not in known:
            raise ConfigError(f"no scheduler {name!r} in diffusers{did_you_mean(name, known)}")
        scheduler = getattr(diffusers, name)
        # In the place of a class whose packages are missing, diffusers has a dummy that names them.
        needed = getattr(scheduler, "_backends", ())
        if missing := [package for package in needed if find_spec(package) is None]:
            raise ConfigError(
                f"scheduler {name} needs the package {missing[0]}; install it with pip install "
                f"{missing[0]}"
            )
        compatible = set(getattr(getattr(diffusers, own), "_compatibles", ()))
        if name != own and name not in compatible:
            raise ConfigError(
                f"scheduler {name} does not fit a model made for {own}; these do: "
                f"{', '.join(sorted(compatible)) or own}"
            )
        return scheduler

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

    def sizes_px(
        self, requested: int | tuple[int, int] | tuple[tuple[int, int], ...] | None
    ) -> tuple[tuple[int, int], ...]:
        """Widths and heights of pictures: the requested ones, or the model's own for None.

        Raises:
            ConfigError: The model cannot render this size, because a side would not be a whole
                number of latents; or it states no size of its own.
        """
        if requested is None:
            latent_size = self._network.get("sample_size")
            if not isinstance(latent_size, int):
                raise ConfigError(f"{self.model.folder}: does not say its size; give --size")
            requested = latent_size * self._downsampling
        match requested:
            case int(side):
                sizes: tuple[tuple[int, int], ...] = ((side, side),)
            case (int(width), int(height)):
                sizes = ((width, height),)
            case _:
                sizes = requested
        for side in itertools.chain(*sizes):
            if side % self._downsampling:
                raise ConfigError(
                    f"size {side} px: this model renders multiples of {self._downsampling} px; "
                    "give another --size"
                )
        return sizes

    def check_batch_size(self, size: int | str) -> None:
        """Refuse batches of more than one view of a class that cannot do it. Raises ConfigError."""
        reason = ONE_VIEW.get(self.pipeline_name)
        if reason and size not in ("auto", 1):
            raise ConfigError(f"batch size {size}: {self.pipeline_name} {reason}; give 1 or auto")

    def captions_per_batch(self, setting: str) -> str:
        """`one` or `many`: the setting, or what this class is proven to bear for `auto`."""
        if setting != "auto":
            return setting
        return "many" if self.pipeline_name in MIXES_CAPTIONS else "one"

    @cached_property
    def guidance(self) -> Guidance:
        """How this model is guided."""
        return guidance_of(self.pipeline_name, self._network, self.model.index)

    @property
    def usual_scale(self) -> float:
        """The guidance scale where none is asked for."""
        kind, argument = self.guidance.kind, self.guidance.argument
        if kind == "classifier-free":
            return USUAL_SCALE
        default = self.call[argument].default
        return float(default) if kind == "embedded" and default is not None else 0.0

    def check_guidance_interval(self, scales: Iterable[float]) -> None:
        """Refuse a guidance interval that would do nothing, or the wrong thing."""
        if self.pipeline_name not in GUIDED_AS_ONE_BATCH:
            raise ConfigError(
                f"renderer.guidance_interval: {self.pipeline_name} is not known to guide by one "
                "batch of twice the size; leave it out"
            )
        if not any(map(self.guidance.is_guided, scales)):
            raise ConfigError(
                "renderer.guidance_interval: no view is guided; give a --guidance above "
                f"{self.guidance.none:g} or leave it out"
            )

    def check_taken(self, argument: str, value: object) -> None:
        """Refuse an argument that this pipeline does not take. Raises ConfigError."""
        if value is not None and argument not in self.call:
            raise ConfigError(
                f"renderer.{argument}: {self.pipeline_name} does not take it; leave it out"
            )

    def advice(self, scales: Iterable[float], steps: int) -> str | None:
        """What is unusual about scales and steps for a distilled model; None if nothing is."""
        return distilled_advice(self.pipeline_name, self.model.name, self.guidance, scales, steps)

    def check_guidance(self, scales: Iterable[float], has_negative_prompts: bool) -> None:
        """Refuse scales and negative prompts that the model would ignore. Raises ConfigError."""
        guidance, scales = self.guidance, list(scales)
        if guidance.kind == "none" and any(scale > 1 for scale in scales):
            raise ConfigError(
                f"guidance: {self.pipeline_name} with this model ignores it; give --guidance 0"
            )
        # Most models guide above 1 alone, and some distilled ones ask for 0. A scale between them
        # would be recorded and change nothing.
        for scale in scales:
            if 0 < scale < guidance.none:
                raise ConfigError(
                    f"guidance: a scale of {scale:g}: {self.pipeline_name} computes no guidance at "
                    f"or below {guidance.none:g}; give {guidance.none:g} for none"
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
