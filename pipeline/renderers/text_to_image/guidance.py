"""How a pipeline is guided: which argument holds the scale, which scale is none, what it costs.

Read from diffusers 0.42.1, `pipelines/*/pipeline_*.py`: the property `do_classifier_free_guidance`
or the condition in `__call__` of each class.
"""

from collections.abc import Mapping
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
_EMBEDDED = Guidance(kind="embedded", none=0.0)
_IGNORED = Guidance(kind="none")

_BY_CLASS: Mapping[str, Guidance] = {
    # `apply_cfg = ... guidance_scale > 0`: the formula is cond + w (cond - uncond).
    "ZImagePipeline": Guidance(kind="classifier-free", none=0.0),
    "Krea2Pipeline": Guidance(kind="classifier-free", none=0.0),
    # `guidance_embeds` of its network is False, and it obeys classifier-free guidance.
    "SanaPipeline": _CLASSIFIER_FREE,
    "SanaSprintPipeline": _EMBEDDED,
    "LatentConsistencyModelPipeline": _EMBEDDED,
    "Flux2Pipeline": _EMBEDDED,
}


def guidance_of(pipeline: str, network: Mapping[str, Any], index: Mapping[str, Any]) -> Guidance:
    """How a pipeline of this class is guided.

    Args:
        pipeline: Name of the class.
        network: Configuration of its U-Net or transformer.
        index: `model_index.json`.
    """
    if pipeline in _BY_CLASS:
        return _BY_CLASS[pipeline]
    if pipeline == "QwenImagePipeline" and not network.get("guidance_embeds"):
        # `do_true_cfg = true_cfg_scale > 1 and has_neg_prompt`: without a negative prompt there is
        # no guidance, and a blank is what the model's card gives.
        return Guidance(kind="classifier-free", argument="true_cfg_scale", empty_negative=" ")
    if pipeline == "Flux2KleinPipeline":
        return _IGNORED if index.get("is_distilled") else _CLASSIFIER_FREE
    # A network that takes the scale as an input: latent consistency models, FLUX.1 dev.
    if network.get("guidance_embeds") or network.get("time_cond_proj_dim") is not None:
        return _EMBEDDED
    # False, and not absent: distilled without an input for guidance, such as FLUX.1 schnell.
    return _IGNORED if network.get("guidance_embeds") is False else _CLASSIFIER_FREE
