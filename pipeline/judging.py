"""Whether a rendered view is a picture at all, judged from the pixels alone."""

from manifests.schema import Reason
from pipeline.views import RenderedView

BLANK_RANGE = 8
"""A picture whose channels each span fewer levels (of 255) shows nothing."""


def judge(view: RenderedView) -> Reason:
    """Why a view is refused, or "" if it is kept."""
    if not view.is_finite:
        return "non-finite"
    span = view.pixels.max(axis=(0, 1)).astype(int) - view.pixels.min(axis=(0, 1))
    return "blank" if span.max() < BLANK_RANGE else ""
