"""The laws of renderers (`pipeline.renderers`) as tests for any renderer."""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest

from manifests.columns import of_scope, require_values
from manifests.plan import ViewRequest
from pipeline.renderers import Renderer, require_declarations, require_probed
from pipeline.testing.requests import requests_for

_NOT_REPRODUCIBLE = "the renderer does not promise the same pixels again"


class RendererLaws(ABC):
    """Subclass it as `class TestMine(RendererLaws)` and say how your renderer is made."""

    texts: Sequence[str] = ("a penguin", "a fruit, a lemon on blue", "an owl")
    """Subjects that the renderer can depict, of its first kind."""

    @abstractmethod
    def make(self) -> Renderer:
        """A new renderer at each call, always with the same configuration.

        It must need no probing: where it has a batch size, that is a number and not `auto`.
        """

    @pytest.fixture
    def renderer(self) -> Renderer:
        return self.make()

    def requests(self, renderer: Renderer, *, paired: bool = False) -> list[ViewRequest]:
        """Two draws of every variation of each subject."""
        variations = renderer.variations()
        return requests_for(
            self.texts,
            columns=renderer.columns(),
            variations=variations,
            views_per_subject=2 * len(variations),
            kind=renderer.kinds[0],
            paired=paired,
        )

    def test_declared_columns_hold_what_the_renderer_says(self, renderer: Renderer) -> None:
        assert renderer.variations()
        require_declarations(type(renderer).__name__, renderer)

    def test_a_worker_can_be_built_and_called(self, renderer: Renderer) -> None:
        require_probed(type(renderer).__name__, renderer)
        assert all(isinstance(kind, str) for kind in renderer.kinds)
        assert not isinstance(renderer.kinds, str)
        for request in self.requests(renderer):
            hash(renderer.batch_key(request))

    def test_one_view_for_each_request_in_their_order(self, renderer: Renderer) -> None:
        requests = self.requests(renderer)
        views = renderer.render(requests)
        assert len(views) == len(requests)
        if not type(renderer).is_reproducible:
            pytest.skip(_NOT_REPRODUCIBLE)
        for view, again in zip(views, renderer.render(requests[::-1])[::-1], strict=True):
            np.testing.assert_array_equal(view.pixels, again.pixels)

    def test_a_view_is_the_same_whatever_its_neighbours(self, renderer: Renderer) -> None:
        if not type(renderer).is_reproducible:
            pytest.skip(_NOT_REPRODUCIBLE)
        requests = self.requests(renderer)
        views = renderer.render(requests)
        together = {r.key: v.pixels for r, v in zip(requests, views, strict=True)}
        # In other orders and parts: alone, in parts that are no whole batch, and beyond one batch.
        shuffled = random.Random(0).sample(requests, len(requests))
        for size in (1, 2, 3, renderer.batch_size, 2 * renderer.batch_size + 1):
            for start in range(0, len(shuffled), size):
                part = shuffled[start : start + size]
                for request, view in zip(part, renderer.render(part), strict=True):
                    np.testing.assert_array_equal(view.pixels, together[request.key])

    def test_another_seed_is_another_view(self, renderer: Renderer) -> None:
        if not type(renderer).is_reproducible:
            pytest.skip(_NOT_REPRODUCIBLE)
        # The two draws of one variation, so that nothing but the seed differs.
        first, second = (
            request
            for request in self.requests(renderer)[: 2 * len(renderer.variations())]
            if request.variation == renderer.variations()[0]
        )
        assert first.seed != second.seed
        one, other = renderer.render([first, second])
        assert (one.pixels != other.pixels).any()

    def test_the_global_random_state_is_untouched(self, renderer: Renderer) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
        renderer.render(self.requests(renderer)[:2])
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (repr(np.random.get_state()), random.getstate()) == before[1:]

    def test_views_have_the_stated_size_and_values(self, renderer: Renderer) -> None:
        columns = of_scope(renderer.columns(), "view")
        assert renderer.size_of(renderer.variations()[0]) == renderer.provenance().size_px
        requests = self.requests(renderer)
        for request, view in zip(requests, renderer.render(requests), strict=True):
            width_px, height_px = renderer.size_of(request.variation)
            assert view.pixels.dtype == np.uint8
            assert view.pixels.shape == (height_px, width_px, 3)
            assert view.is_finite
            require_values(view.values, columns, what="view")

    def test_identity_is_json_and_equal_where_the_pixels_are(self, renderer: Renderer) -> None:
        assert json.loads(json.dumps(renderer.identity())) == renderer.identity()
        again = self.make()
        assert again.identity() == renderer.identity()
        if not type(renderer).is_reproducible:
            pytest.skip(_NOT_REPRODUCIBLE)
        requests = self.requests(renderer)[:4]
        views, views_again = renderer.render(requests), again.render(requests)
        for view, view_again in zip(views, views_again, strict=True):
            np.testing.assert_array_equal(view.pixels, view_again.pixels)

    def test_the_frozen_configuration_makes_the_same_renderer(self, renderer: Renderer) -> None:
        values = json.loads(renderer.frozen().model_dump_json())
        again = type(renderer)(
            type(renderer).Config.model_validate(_tuples(values)),
        )
        assert again.identity() == renderer.identity()
        assert again.resources() == renderer.resources()
        assert again.provenance() == renderer.provenance()


def _tuples(value: object) -> object:
    """The value with tuples for lists: JSON has only lists, and a strict Config wants tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
