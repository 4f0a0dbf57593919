"""Plug-ins of somebody else, each with one fault, that tests name by dotted path."""

import sys
from typing import Any

import numpy as np

from manifests.columns import DeclaredColumn
from manifests.foundation.settings import Table
from pipeline.audits import Audit
from pipeline.views import Provenance, RenderedView, Resources
from prompts.subject import Subject
from tests.renderers import Stripes


class NoTable(Stripes):
    Config = dict  # type: ignore[assignment]


class KindsText(Stripes):
    kinds = "caption"  # type: ignore[assignment]


class OneKeyColumn(Stripes):
    def columns(self) -> Any:
        return [DeclaredColumn("sha256", "string", "taken by the format", scope="variation")]


class OtherVariation(Stripes):
    def variations(self) -> Any:
        return [{"angle": "north"}]


class NoVariations(Stripes):
    def variations(self) -> Any:
        return None


class TupleIdentity(Stripes):
    def identity(self) -> Any:
        return {"angles": (0, 90)}


class NanIdentity(Stripes):
    def identity(self) -> Any:
        return {"angle": float("nan")}


class EmptyBatches(Stripes):
    batch_size = 0  # type: ignore[assignment]


class NoThreads(Stripes):
    def resources(self) -> Resources:
        return Resources(threads=0)


class NoResources(Stripes):
    def resources(self) -> Any:
        return None


class ExitsInRender(Stripes):
    def provenance(self) -> Provenance:
        sys.exit("no licence key")


class GivesNone(Stripes):
    def render(self, requests: Any) -> Any:
        return None


class GivesPixels(Stripes):
    def render(self, requests: Any) -> Any:
        return [np.zeros((16, 16, 3), np.uint8) for _ in requests]


class NoBatchKey(Stripes):
    def batch_key(self, request: Any) -> Any:
        raise KeyError("angel")


class ListBatchKey(Stripes):
    def batch_key(self, request: Any) -> Any:
        return [1]


class Paints(Audit):
    """Tries to change what is stored."""

    Config = Table

    def refuses(self, request: Any, view: RenderedView) -> bool:
        view.pixels[:] = 0
        return False


class Undecided(Audit):
    Config = Table

    def refuses(self, request: Any, view: RenderedView) -> Any:
        return None


class Raises(Audit):
    Config = Table

    def refuses(self, request: Any, view: RenderedView) -> bool:
        raise IndexError("no such threshold")


class NamedConfig(Table):
    name: str = "x"


class Named(Audit):
    Config = NamedConfig

    def refuses(self, request: Any, view: RenderedView) -> bool:
        return False


class IdleConfig(Table):
    executor: str


class Idle:
    """An executor that makes nothing."""

    Config = IdleConfig

    def __init__(self, config: Any) -> None:
        pass

    def run(self, shards: Any, job: Any) -> Any:
        return iter(())


class Chatty(Idle):
    def run(self, shards: Any, job: Any) -> Any:
        return iter(["done"])


class SourceConfig(Table):
    source: str


class NoSubjects:
    Config = SourceConfig

    def __init__(self, config: Any) -> None:
        pass

    def subjects(self, columns: Any) -> Any:
        return []


class TextSubjects(NoSubjects):
    def subjects(self, columns: Any) -> Any:
        return ["a fox"]


class NumberSubjects(NoSubjects):
    def subjects(self, columns: Any) -> Any:
        return [Subject(text=7)]  # type: ignore[arg-type]
