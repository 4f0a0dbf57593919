"""Refuses a view whose renderer computed NaN or infinity: its pixels mean nothing."""

from manifests.foundation.settings import Table
from pipeline.audits import Audit
from pipeline.views import RenderedView, ViewRequest


class NonFiniteConfig(Table):
    """Table [audits.non-finite] of a recipe: there is nothing to set."""


class NonFinite(Audit):
    """Audit `non-finite`. The laws are in `pipeline.audits`."""

    Config = NonFiniteConfig

    def refuses(self, request: ViewRequest, view: RenderedView) -> bool:
        """Whether the renderer computed NaN or infinity for this view."""
        return not view.is_finite
