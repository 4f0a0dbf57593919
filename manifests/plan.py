"""From the prompts of a shard to its views: a pure function of the recipe's identity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manifests.canonical import hash_json, sha256_hex
from manifests.ids import view_key, view_seed
from manifests.recipe import Identity
from manifests.rows import PromptRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRequest:
    """One view to render; with the recipe it decides every pixel."""

    key: str
    prompt: PromptRow
    view_index: int
    guidance_scale: float
    seed: int


def requests_of(identity: Identity, prompts: Iterable[PromptRow]) -> list[ViewRequest]:
    """The views of some prompts, in the order of keys."""
    scales = identity.guidance_scales
    return [
        ViewRequest(
            key=view_key(prompt.group_index, view),
            prompt=prompt,
            view_index=view,
            guidance_scale=scales[view % len(scales)],
            seed=view_seed(identity.dataset_seed, prompt.group_id, view),
        )
        for prompt in prompts
        for view in range(identity.images_per_prompt)
    ]


def hash_prompts(prompts: Sequence[PromptRow]) -> str:
    """Hash of the merged prompts in order, whatever file they are kept in."""
    lines = [
        hash_json([getattr(prompt, name) for name in PromptRow.__slots__]) for prompt in prompts
    ]
    return sha256_hex("\n".join(lines).encode())
