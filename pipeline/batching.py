"""Requests into batches that a renderer may compute at once, as few and as full as possible."""

from collections.abc import Callable, Hashable, Iterator, Sequence

from pipeline.views import ViewRequest


def batches(
    requests: Sequence[ViewRequest], size: int, key: Callable[[ViewRequest], Hashable]
) -> Iterator[list[ViewRequest]]:
    """Batches of at most `size` requests of one key, keys in the order of first appearance.

    Example: at size 2, requests with keys A B A A give batches AA, A, B.
    """
    alike: dict[Hashable, list[ViewRequest]] = {}
    for request in requests:
        alike.setdefault(key(request), []).append(request)
    for group in alike.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def fill_up(batch: Sequence[ViewRequest], size: int) -> list[ViewRequest]:
    """A batch of exactly `size`, its last request repeated.

    Floats change with the batch size, so a fixed one is what makes a view independent of its
    neighbours.
    """
    return [*batch, *[batch[-1]] * (size - len(batch))]
