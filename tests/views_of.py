"""Requests for renderers, made as a plan makes them."""

from collections.abc import Sequence

from manifests.plan import ViewRequest
from pipeline.renderers.text_to_image.config import COLUMNS
from pipeline.testing.requests import requests_for

CAPTIONS = ("a penguin", "a fruit, a lemon on blue", "an owl")


def requests(
    captions: Sequence[str] = CAPTIONS,
    *,
    views_per_subject: int = 4,
    guidance: Sequence[float] = (1.0, 4.0),
    seed: int = 0,
    negative_prompt: str = "",
    paired: bool = False,
) -> list[ViewRequest]:
    """The views of some captions for the renderer `text-to-image`, in the order of keys."""
    return requests_for(
        captions,
        columns=COLUMNS,
        variations=[{"guidance_scale": scale} for scale in guidance],
        views_per_subject=views_per_subject,
        seed=seed,
        values={"negative_prompt": negative_prompt},
        paired=paired,
    )
