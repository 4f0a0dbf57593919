"""The laws of pipeline.audits, for every entry of the table."""

import numpy as np
import pytest

from pipeline.audits import AUDITS, Audit
from pipeline.audits.blank import Blank, BlankConfig
from pipeline.audits.non_finite import NonFinite, NonFiniteConfig
from pipeline.testing.audits import AuditLaws
from pipeline.testing.requests import requests_for
from pipeline.views import RenderedView

TESTED = {"blank", "non-finite"}
"""A new entry of the table has to be added here, with a class below."""


def flat(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, dtype=np.uint8)


def test_every_entry_is_tested() -> None:
    assert set(AUDITS) == TESTED


class TestNonFinite(AuditLaws):
    def make(self) -> Audit:
        return NonFinite(NonFiniteConfig())

    def refused(self) -> RenderedView:
        return RenderedView(pixels=flat(0), is_finite=False)


class TestBlank(AuditLaws):
    def make(self) -> Audit:
        return Blank(BlankConfig())

    def refused(self) -> RenderedView:
        return RenderedView(pixels=flat(200))

    @pytest.mark.parametrize(("levels", "is_refused"), [(6, True), (7, True), (8, False)])
    def test_nearly_one_colour_is_blank_up_to_the_limit(
        self, levels: int, is_refused: bool
    ) -> None:
        pixels = flat(100)
        pixels[0, 0, 1] += levels
        assert self.verdict(Blank(BlankConfig()), pixels) == is_refused

    def test_the_limit_can_be_set(self) -> None:
        pixels = flat(100)
        pixels[0, 0, 1] += 3
        assert not self.verdict(Blank(BlankConfig(min_levels=3)), pixels)

    def test_colours_that_differ_between_channels_only_are_blank(self) -> None:
        pixels = flat(0)
        pixels[..., 0] = 255
        assert self.verdict(Blank(BlankConfig()), pixels)

    def verdict(self, audit: Audit, pixels: np.ndarray) -> bool:
        (request,) = requests_for(["a"], columns=(), variations=[{}], views_per_subject=1)
        return audit.refuses(request, RenderedView(pixels=pixels))
