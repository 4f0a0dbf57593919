"""Renderers turn view requests into pixels. This folder holds only renderers.

A renderer is a class that derives from `Renderer`. It says which kinds of subject it depicts, what
varies between the views of a subject, and what a worker needs to run it; the rest of the pipeline
knows nothing of how pixels are computed. `pipeline.testing.renderers.RendererLaws` tests these laws
for any renderer, and tests/conformance runs them for every entry of the table:

1. One view per request, in the order of the requests.
2. A request gives the same pixels whatever else is in the call: to the bit, on the CPU and on one
   GPU type in eager mode. Where floats depend on the size of a batch, a renderer computes in
   batches of one fixed size, and fills a smaller one up by repeating a request.
3. Different seeds give different pixels.
4. The global random state is not touched; all randomness comes from the request's seed.
5. Pixels are uint8 RGB of the size that `size_of()` says.
6. `identity()` is JSON and holds all that decides the pixels: two renderers with equal identities
   give equal pixels.
7. A renderer built from `frozen()` has the same identity, also after a trip through JSON.
8. Variations, constants and values fit the declared columns.

Laws 2, 3 and 6 are not asked of a renderer with `is_reproducible = False`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from manifests.columns import DeclaredColumn, Value, of_scope, require_columns, require_values
from manifests.errors import ContractError
from manifests.foundation.errors import ConfigError, PluginError
from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from manifests.rows import SubjectRow
from manifests.schema import TAKEN_NAMES
from pipeline.errors import RendererError
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest


class Renderer(ABC):
    """Base of every renderer. The laws are above."""

    Config: ClassVar[type[Table]]
    """Keys of the recipe's table [renderer]: `name`, and those of this renderer."""

    kinds: ClassVar[tuple[str, ...]]
    """Kinds of subject that it can depict."""

    is_reproducible: ClassVar[bool] = True
    """Whether a request gives the same pixels again. False for a renderer such as a remote API that
    takes no seed; then the bytes that are committed first are kept."""

    def __init__(self, config: Any) -> None:
        """Check the configuration and read what identifies the model; load no weights yet."""
        self.config = config

    @property
    def batch_size(self) -> int:
        """Requests that are computed at once.

        A worker calls `render` with at most so many; `render` itself takes any number.
        """
        return 16

    def resources(self) -> Resources:
        """What a worker has to provide."""
        return Resources()

    def columns(self) -> Sequence[DeclaredColumn]:
        """Columns of its sets besides those that every set has.

        Example: `[DeclaredColumn("angle", "double", "direction", "degrees", scope="variation")]`.
        """
        return ()

    def variations(self) -> Sequence[Mapping[str, Value]]:
        """The variations that are dealt over the views of each subject in turn.

        Each has a value for every declared column of scope `variation`, and no other.
        Example: `[{"angle": 0.0}, {"angle": 90.0}]`.
        """
        return ({},)  # one variation without values: views differ in their seeds alone

    def size_of(self, variation: Mapping[str, Value]) -> tuple[int, int]:
        """Width and height of the pixels of a variation; `provenance()` has those of the first."""
        return self.provenance().size_px

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse settings and subjects that this renderer would ignore. Raises ConfigError."""
        return None

    def probe(self, requests: Sequence[ViewRequest]) -> "Renderer":
        """The renderer with everything settled that has to be tried out, such as a batch size.

        Args:
            requests: All views of the first shard, so that it can be seen how many go together.
        """
        return self

    def time_batches(self, request: ViewRequest) -> Iterator[tuple[int, float]]:
        """Sizes of batches from small to large, each with the views per second of one batch.

        Raises:
            ConfigError: The size of a batch is no setting of this renderer.
        """
        raise ConfigError(f"renderer {type(self).__name__}: has no batch size to choose")

    def try_request(self, request: ViewRequest) -> None:
        """Try what only pixels can show, before a set is begun, with a request that is all right.

        Raises:
            ModelError: The set would not be what its rows say.
        """
        return None

    def frozen(self) -> Table:
        """The configuration with no `auto` left in it: a worker is built from it."""
        config: Table = self.config
        return config

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Requests with different keys are never rendered in one call."""
        return tuple(request.variation.values())

    def release(self) -> None:
        """Give back the memory of the model and end helpers; the next use loads it again."""
        return None

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests, as JSON; a version of the code too.

        Example: `{"version": 1, "batch_size": 16}`.
        """

    @abstractmethod
    def provenance(self) -> Provenance:
        """Model, revision, size and constants, as every row of the set records them."""

    @abstractmethod
    def render(self, requests: Sequence[ViewRequest]) -> Sequence[RenderedView]:
        """Views of requests that all have the same `batch_key`, in the order of the requests.

        Raises:
            RenderError: The model failed on these requests.
            RenderMemoryError: The device is out of memory.
        """


RENDERERS: Mapping[str, Entry] = {
    "text-to-image": Entry("pipeline.renderers.text_to_image:TextToImage", "pipeline"),
    "image-programs": Entry("pipeline.renderers.image_programs:ImagePrograms", "pipeline"),
    "shaders": Entry("pipeline.renderers.shaders:Shaders", "shaders"),
    "latent-neighbourhood": Entry(
        "pipeline.renderers.latent_neighbourhood:LatentNeighbourhood", "pipeline"
    ),
}


def renderer_class(name: str) -> type[Renderer]:
    """The renderer behind a name. Raises PluginError."""
    plugin: type[Renderer] = load_plugin("renderer", RENDERERS, name, Renderer)
    if not isinstance(plugin.kinds, tuple) or not all(
        isinstance(kind, str) for kind in plugin.kinds
    ):
        raise PluginError(f"renderer {name}: its kinds are {plugin.kinds!r}, expected a tuple")
    return plugin


def require_declarations(name: str, renderer: Renderer) -> None:
    """Refuse a renderer whose columns, variations and constants break law 8.

    Raises:
        RendererError: They cannot be columns of a table, or a value does not fit its column.
    """
    columns = renderer.columns()
    try:
        require_columns(columns, TAKEN_NAMES)
        for variation in renderer.variations():
            require_values(variation, of_scope(columns, "variation"), what="variation")
        require_values(renderer.provenance().constants, of_scope(columns, "set"), what="constants")
    except ContractError as exc:
        raise RendererError(f"renderer {name}: {exc}; this is a fault of the renderer") from exc


def require_probed(name: str, renderer: Renderer) -> None:
    """Refuse a renderer, after its probe, that no worker could build again or call.

    Raises:
        RendererError: Its identity is no JSON that reads back as it was, no batch has its size, or
            no worker the resources that it asks for.
    """
    identity, batch_size = renderer.identity(), renderer.batch_size
    try:
        is_json = json.loads(json.dumps(identity, allow_nan=False)) == identity
    except (TypeError, ValueError, RecursionError):
        is_json = False
    if not isinstance(identity, Mapping) or not is_json:
        raise RendererError(
            f"renderer {name}: its identity is {identity!r:.200}, expected a JSON object that "
            "reads back as it was written: lists, no tuples; texts as keys; no NaN; this is a "
            "fault of the renderer"
        )
    try:
        resources = renderer.resources()
    except ConfigError as exc:
        raise RendererError(f"renderer {name}: {exc}; this is a fault of the renderer") from exc
    if not isinstance(resources, Resources):
        raise RendererError(
            f"renderer {name}: its resources are {resources!r:.100}, expected "
            "pipeline.views.Resources; this is a fault of the renderer"
        )
    if type(batch_size) is not int or batch_size < 1:
        raise RendererError(
            f"renderer {name}: its batch_size is {batch_size!r:.100}, expected 1 or more; this is "
            "a fault of the renderer"
        )
