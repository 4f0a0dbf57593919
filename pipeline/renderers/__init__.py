"""Renderers turn view requests into pixels. This folder holds only renderers.

Laws, tested for every entry of the table (tests/conformance):

1. One view per request, in the order of the requests.
2. A request gives the same pixels whatever else is in the call: exactly on the CPU and on one GPU
   type in eager mode. So a renderer computes in batches of one fixed size, filled up by repeating.
3. Different view indices give different pixels.
4. The global random state is not touched; noise comes from the request's seed alone.
5. Pixels are uint8 RGB of the size that `provenance()` says, as wide as high.
6. `identity()` is JSON and holds all that decides the pixels; two renderers of one identity agree.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from manifests.foundation.plugins import Entry, load_plugin
from pipeline.views import Provenance, RenderedView, ViewRequest


class Renderer(Protocol):
    """See the laws above."""

    Config: type[BaseModel]
    """Keys of the recipe's table [renderer]: `name`, `batch_size` and its own; frozen, unknown ones
    forbidden."""

    def __init__(self, config: Any) -> None:
        """Check the configuration and read what identifies the model; load no weights yet."""

    @property
    def batch_size(self) -> int:
        """Most requests that are computed at once; a call with a multiple wastes nothing."""

    def check(self, guidance_scales: Sequence[float], has_negative_prompts: bool) -> None:
        """Refuse what this model would ignore. Raises ConfigError."""

    def with_batch_size(self, requests: Sequence[ViewRequest]) -> "Renderer":
        """The renderer with its batch size found, if it was `auto`, by rendering some requests."""

    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests."""

    def provenance(self) -> Provenance:
        """What the rows say."""

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        """Pixels of requests that all have the same guidance scale.

        Raises:
            RenderError: The model failed on these requests.
            RenderMemoryError: Out of memory, also at the second try.
        """


RENDERERS: Mapping[str, Entry] = {
    "text-to-image": Entry("pipeline.renderers.text_to_image:TextToImage", "pipeline"),
}


def renderer_class(name: str) -> type[Renderer]:
    """The renderer behind a name."""
    found: type[Renderer] = load_plugin("renderer", RENDERERS, name, Renderer)
    return found
