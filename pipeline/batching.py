"""Requests into batches of one kind of guidance each, as few and as full as possible."""

from collections.abc import Iterator, Sequence

from pipeline.views import ViewRequest


def batches(requests: Sequence[ViewRequest], size: int) -> Iterator[list[ViewRequest]]:
    """Batches of at most `size`; scales in the order of first appearance, requests in theirs.

    Prompts with a negative prompt of their own go apart: some models treat none and an empty one
    differently, and a view must not depend on its neighbours.

    Example: at size 2, scales [1, 3, 1, 1] give batches of scales [1, 1], [1], [3].
    """
    alike: dict[tuple[float, bool], list[ViewRequest]] = {}
    for request in requests:
        kind = request.guidance_scale, bool(request.prompt.negative_prompt)
        alike.setdefault(kind, []).append(request)
    for group in alike.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def fill_up(batch: Sequence[ViewRequest], size: int) -> list[ViewRequest]:
    """A batch of exactly `size`, its last request repeated.

    Floats change with the batch size, so a fixed one is what makes a view independent of its
    neighbours.
    """
    return [*batch, *[batch[-1]] * (size - len(batch))]
