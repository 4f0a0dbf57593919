"""How a pipeline is guided: which argument holds the scale, which scale is none, what it costs.

Read from diffusers 0.42.1, `pipelines/*/pipeline_*.py`: the property `do_classifier_free_guidance`
or the condition in `__call__` of each class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["classifier-free", "embedded", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What a scale does to a pipeline."""

    kind: Kind
    """`classifier-free`: a second pass without the prompt or with the negative one. `embedded`: the
    scale is an input of the network, and there is no second pass. `none`: it is ignored."""
    argument: str = "guidance_scale"
    """Of the call."""
    none: float = 1.0
    """The largest scale that guides nothing."""
    empty_negative: str | None = None
    """A negative prompt that has to be given for guidance, if there is no other."""

    def is_guided(self, scale: float) -> bool:
        """Whether a scale changes pixels by a second pass."""
        return self.kind == "classifier-free" and scale > self.none


_CLASSIFIER_FREE = Guidance(kind="classifier-free")
_READ = frozenset(
    {
        *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"),
        *("KolorsPipeline", "Kandinsky3Pipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline"),
        *("FluxPipeline", "Flux2KleinPipeline", "ChromaPipeline", "AuraFlowPipeline"),
        *("HunyuanDiTPipeline", "HunyuanImagePipeline", "CogView3PlusPipeline", "CogView4Pipeline"),
        *("LuminaPipeline", "Lumina2Pipeline", "PRXPipeline", "QwenImagePipeline"),
        *("QwenImage21Pipeline", "Kandinsky5T2IPipeline", "ErnieImagePipeline", "GlmImagePipeline"),
        *("HiDreamImagePipeline", "NucleusMoEImagePipeline", "Cosmos2TextToImagePipeline"),
    }
)
"""Classes whose code was read, besides those of `_BY_CLASS`: what `guidance_of` says of them is
known. Of others it is a guess, which is tried before a set is begun."""
_EMBEDDED = Guidance(kind="embedded", none=0.0)
_IGNORED = Guidance(kind="none")

_BY_CLASS: Mapping[str, Guidance] = {
    # `apply_cfg = ... guidance_scale > 0`: the formula is cond + w (cond - uncond).
    "ZImagePipeline": Guidance(kind="classifier-free", none=0.0),
    "Krea2Pipeline": Guidance(kind="classifier-free", none=0.0),
    # `guidance_embeds` of their networks is False, and they obey classifier-free guidance.
    "SanaPipeline": _CLASSIFIER_FREE,
    "BriaPipeline": _CLASSIFIER_FREE,
    "BriaFiboPipeline": _CLASSIFIER_FREE,
    "OvisImagePipeline": _CLASSIFIER_FREE,
    "LongCatImagePipeline": _CLASSIFIER_FREE,
    "SanaSprintPipeline": _EMBEDDED,
    "LatentConsistencyModelPipeline": _EMBEDDED,
    "Flux2Pipeline": _EMBEDDED,
}


def is_known(pipeline: str) -> bool:
    """Whether the code of this class was read, so that nothing has to be tried."""
    return pipeline in _READ or pipeline in _BY_CLASS


def guidance_of(pipeline: str, network: Mapping[str, Any], index: Mapping[str, Any]) -> Guidance:
    """How a pipeline of this class is guided.

    Args:
        pipeline: Name of the class.
        network: Configuration of its U-Net or transformer.
        index: `model_index.json`.
    """
    if pipeline in _BY_CLASS:
        return _BY_CLASS[pipeline]
    if pipeline.startswith("QwenImage") and not network.get("guidance_embeds"):
        # `do_true_cfg = true_cfg_scale > 1 and has_neg_prompt`: without a negative prompt there is
        # no guidance, and a blank is what the model's card gives.
        return Guidance(kind="classifier-free", argument="true_cfg_scale", empty_negative=" ")
    if pipeline == "HunyuanImagePipeline" and network.get("guidance_embeds"):
        # Without this input its guidance is a part of its own, which no argument of a call sets.
        return Guidance(kind="embedded", argument="distilled_guidance_scale", none=0.0)
    if pipeline == "Flux2KleinPipeline":
        return _IGNORED if index.get("is_distilled") else _CLASSIFIER_FREE
    # A network that takes the scale as an input: latent consistency models, FLUX.1 dev.
    if network.get("guidance_embeds") or network.get("time_cond_proj_dim") is not None:
        return _EMBEDDED
    # False, and not absent: distilled without an input for guidance, such as FLUX.1 schnell.
    return _IGNORED if network.get("guidance_embeds") is False else _CLASSIFIER_FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """What a distilled model was trained for, by its authors."""

    scales: tuple[float, float]
    """Smallest and largest guidance scale."""
    steps: tuple[int, int]
    """Fewest and most denoising steps."""


_DISTILLED_CLASSES: Mapping[str, Distilled] = {
    # Cards of SimianLuo/LCM_Dreamshaper_v7 and Efficient-Large-Model/Sana_Sprint.
    "LatentConsistencyModelPipeline": Distilled(scales=(1.0, 14.0), steps=(1, 8)),
    "SanaSprintPipeline": Distilled(scales=(1.0, 10.0), steps=(1, 4)),
}
_DISTILLED_NAMES: Mapping[str, Distilled] = {
    # Cards of stabilityai/sdxl-turbo, ByteDance/SDXL-Lightning and Hyper-SD, latent-consistency
    # /lcm-sdxl, black-forest-labs/FLUX.1-schnell, Tongyi-MAI/Z-Image-Turbo.
    "z-image-turbo": Distilled(scales=(0.0, 0.0), steps=(4, 10)),
    "turbo": Distilled(scales=(0.0, 1.0), steps=(1, 4)),
    "lightning": Distilled(scales=(0.0, 1.0), steps=(1, 8)),
    "hyper": Distilled(scales=(0.0, 1.0), steps=(1, 8)),
    "lcm": Distilled(scales=(1.0, 2.0), steps=(2, 8)),
    "schnell": Distilled(scales=(0.0, 0.0), steps=(1, 4)),
}
"""By a part of the model's name, because nothing in their files says it."""


def distilled_advice(
    pipeline: str, name: str, guidance: Guidance, scales: Iterable[float], steps: int
) -> str | None:
    """A warning about scales or steps that a distilled model was not trained for; or None.

    Args:
        pipeline: Name of the class.
        name: Of the model.
    """
    distilled = _DISTILLED_CLASSES.get(pipeline)
    for part, entry in _DISTILLED_NAMES.items():
        if distilled is None and part in name.lower():
            distilled = entry
    if distilled is None:
        return None
    lowest, highest = distilled.scales
    fewest, most = distilled.steps
    unusual = []
    if guidance.kind != "none" and any(not lowest <= scale <= highest for scale in scales):
        unusual.append(f"guidance {lowest:g} to {highest:g}")
    if not fewest <= steps <= most:
        unusual.append(f"{fewest} to {most} steps")
    if not unusual:
        return None
    return f"a distilled model, by its name or class: its authors use {' and '.join(unusual)}"
