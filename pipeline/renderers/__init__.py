"""Renderers turn view requests into pixels. This folder holds only renderers.

A renderer is a class that derives from `Renderer`. It says which kinds of subject it depicts, what
varies between the views of a subject, and what a worker needs to run it; the rest of the pipeline
knows nothing of how pixels come about. `pipeline.testing.RendererLaws` tests these laws for any
renderer; tests/conformance runs them for every entry of the table:

1. One view per request, in the order of the requests.
2. A request gives the same pixels whatever else is in the call: exactly on the CPU and on one GPU
   type in eager mode. So a renderer computes in batches of one fixed size, filled up by repeating.
3. Different seeds give different pixels.
4. The global random state is not touched; all randomness comes from the request's seed.
5. Pixels are uint8 RGB of the size that `provenance()` says, as wide as high.
6. `identity()` is JSON and holds all that decides the pixels; two renderers of one identity agree.
7. A renderer built from `frozen()` has the same identity, also after a trip through JSON.
8. Variations, constants and values fit the declared columns.

Laws 2, 3 and 6 are not asked of a renderer with `is_reproducible = False`.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from manifests.rows import SubjectRow
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest


class Renderer(ABC):
    """Base of every renderer. The laws are above."""

    Config: ClassVar[type[Table]]
    """Keys of the recipe's table [renderer]: `name` and its own."""

    kinds: ClassVar[tuple[str, ...]]
    """Kinds of subject that it can depict."""

    is_reproducible: ClassVar[bool] = True
    """Whether a request gives the same pixels again. Not so for an API that keeps no seed: then
    the first bytes that are committed stand."""

    def __init__(self, config: Any) -> None:
        """Check the configuration and read what identifies the model; load no weights yet."""
        self.config = config

    @property
    def batch_size(self) -> int:
        """Most requests that are computed at once; a call with a multiple wastes nothing."""
        return 16

    def resources(self) -> Resources:
        """What a worker has to provide."""
        return Resources()

    def columns(self) -> Sequence[DeclaredColumn]:
        """What the rows of its sets say besides what every set says."""
        return ()

    def variations(self) -> Sequence[Mapping[str, Value]]:
        """What is dealt over the views of each subject, by the columns of scope `variation`."""
        return ({},)

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse what this renderer would ignore. Raises ConfigError."""
        return None

    def probe(self, requests: Sequence[ViewRequest]) -> "Renderer":
        """The renderer with everything settled that has to be tried out, such as a batch size.

        Args:
            requests: One subject in every variation.
        """
        return self

    def frozen(self) -> Table:
        """The configuration with nothing left open: a worker is built from it."""
        config: Table = self.config
        return config

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Requests with different keys are never rendered in one call."""
        return tuple(request.variation.values())

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests, a version of the code included."""

    @abstractmethod
    def provenance(self) -> Provenance:
        """What the rows say."""

    @abstractmethod
    def render(self, requests: Sequence[ViewRequest]) -> Sequence[RenderedView]:
        """Pixels of requests that all have the same `batch_key`.

        Raises:
            RenderError: The model failed on these requests.
            RenderMemoryError: Out of memory, also at the second try.
        """


RENDERERS: Mapping[str, Entry] = {
    "text-to-image": Entry("pipeline.renderers.text_to_image:TextToImage", "pipeline"),
}


def renderer_class(name: str) -> type[Renderer]:
    """The renderer behind a name."""
    plugin: type[Renderer] = load_plugin("renderer", RENDERERS, name, Renderer)
    return plugin
