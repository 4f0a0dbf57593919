"""Put requests into batches that a renderer may compute at once, as few and as full as possible."""

from collections.abc import Callable, Hashable, Iterator, Sequence

from pipeline.views import RenderedView, ViewRequest


def batches(
    requests: Sequence[ViewRequest], size: int, key: Callable[[ViewRequest], Hashable]
) -> Iterator[list[ViewRequest]]:
    """Batches of at most `size` requests that have one key.

    Keys come in the order of their first appearance. Example: at size 2, requests with keys
    A B A A give the batches AA, A, B.
    """
    by_key: dict[Hashable, list[ViewRequest]] = {}
    for request in requests:
        by_key.setdefault(key(request), []).append(request)
    for same_key in by_key.values():
        for start in range(0, len(same_key), size):
            yield same_key[start : start + size]


def fill_up(batch: Sequence[ViewRequest], size: int) -> list[ViewRequest]:
    """A batch of exactly `size`: the last request is repeated as often as it takes.

    Floats change with the size of a batch (docs/adr/0004). So every batch has the same size, or a
    view would depend on how many others are rendered with it.
    """
    return [*batch, *[batch[-1]] * (size - len(batch))]


def render_in_batches(
    requests: Sequence[ViewRequest],
    size: int,
    key: Callable[[ViewRequest], Hashable],
    render: Callable[[list[ViewRequest]], Sequence[RenderedView]],
) -> list[RenderedView]:
    """Views of requests in their order, by calls that each have exactly `size` requests of one key.

    What a renderer needs whose floats depend on the size of a batch: its `render` is this.
    """
    rendered: dict[str, RenderedView] = {}
    for batch in batches(requests, size, key):
        views = render(fill_up(batch, size))
        # Not strict: views beyond the batch only filled it up, and are thrown away.
        rendered.update(zip((request.key for request in batch), views, strict=False))
    return [rendered[request.key] for request in requests]
