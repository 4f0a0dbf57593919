"""Audits judge a rendered view before it is stored. This folder holds only audits.

A view that an audit refuses is a failed row whose reason is the audit's name. The audits of a set
and their settings are part of its identity: another threshold would make other rows.

Laws, tested for every entry of the table (tests/conformance):

1. The verdict depends on request, view and configuration alone.
2. The view is not changed.
3. The configuration is JSON and decides the verdicts: equal configurations agree.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from manifests.foundation.plugins import Entry, load_plugin
from manifests.foundation.settings import Table
from pipeline.views import RenderedView, ViewRequest


class Audit(ABC):
    """Base of every audit. The laws are above."""

    Config: ClassVar[type[Table]]
    """Keys of the recipe's table [audits.NAME]; each has a default, so the table may be absent."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def refuses(self, request: ViewRequest, view: RenderedView) -> bool:
        """Whether the view must not be stored; its row says then that it failed, by this audit."""


AUDITS: Mapping[str, Entry] = {
    "non-finite": Entry("pipeline.audits.non_finite:NonFinite", "pipeline"),
    "blank": Entry("pipeline.audits.blank:Blank", "pipeline"),
}


def audit_class(name: str) -> type[Audit]:
    """The audit behind a name."""
    plugin: type[Audit] = load_plugin("audit", AUDITS, name, Audit)
    return plugin
