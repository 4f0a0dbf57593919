"""Requests for renderers, made as a plan makes them."""

from collections.abc import Sequence

from manifests.ids import canonical_text, group_id
from manifests.plan import ViewRequest, requests_of
from manifests.recipe import Identity
from manifests.rows import PromptRow

CAPTIONS = ("a red seven", "a thin two on blue", "an eight, leaning left")


def requests(
    captions: Sequence[str] = CAPTIONS,
    *,
    images_per_prompt: int = 4,
    guidance: Sequence[float] = (1.0, 4.0),
    seed: int = 0,
) -> list[ViewRequest]:
    """The views of some captions, in the order of keys."""
    prompts = [
        PromptRow(
            group_index=index,
            group_id=group_id("caption", canonical_text(caption)),
            prompt=canonical_text(caption),
        )
        for index, caption in enumerate(captions)
    ]
    identity = Identity(
        dataset_seed=seed,
        images_per_prompt=images_per_prompt,
        guidance_scales=tuple(guidance),
        num_prompts=len(prompts),
        prompts_per_shard=len(prompts),
        prompts_sha256="",
        renderer="",
        renderer_identity={},
        image={},
    )
    return requests_of(identity, prompts)
