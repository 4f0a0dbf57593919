"""The laws of audits (`pipeline.audits`) as tests for any audit."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from pipeline.audits import Audit
from pipeline.testing.requests import requests_for
from pipeline.views import RenderedView


class AuditLaws(ABC):
    """Subclass it as `class TestMine(AuditLaws)` and say how your audit is made."""

    @abstractmethod
    def make(self) -> Audit:
        """A new audit at each call, always with the same configuration."""

    @abstractmethod
    def refused(self) -> RenderedView:
        """A view that this audit refuses."""

    def views(self) -> Iterator[RenderedView]:
        """Views of many kinds, the refused one among them."""
        # From one flat colour to noise over all levels.
        rng = np.random.default_rng(0)
        for high in (1, 2, 8, 64, 256):
            yield RenderedView(pixels=rng.integers(0, high, (8, 8, 3)).astype(np.uint8))
        yield self.refused()

    def test_some_views_are_kept_and_some_refused(self) -> None:
        (request,) = requests_for(["a"], columns=(), variations=[{}], views_per_subject=1)
        verdicts = {self.make().refuses(request, view) for view in self.views()}
        assert verdicts == {True, False}
        assert self.make().refuses(request, self.refused())

    def test_the_verdict_depends_on_view_and_configuration_alone(self) -> None:
        (request,) = requests_for(["a"], columns=(), variations=[{}], views_per_subject=1)
        audit, again = self.make(), self.make()
        first = [audit.refuses(request, view) for view in self.views()]
        backwards = [again.refuses(request, view) for view in [*self.views()][::-1]]
        assert first == backwards[::-1]

    def test_the_view_is_not_changed(self) -> None:
        (request,) = requests_for(["a"], columns=(), variations=[{}], views_per_subject=1)
        for view in self.views():
            pixels = view.pixels.copy()
            self.make().refuses(request, view)
            np.testing.assert_array_equal(view.pixels, pixels)

    def test_the_configuration_is_json(self) -> None:
        audit = self.make()
        values = json.loads(audit.config.model_dump_json())
        assert type(audit).Config.model_validate(values) == audit.config
