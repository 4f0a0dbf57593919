from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.columns import Value
from pipeline.batching import batches, fill_up
from pipeline.views import ViewRequest
from tests.views_of import requests


def scale(request: ViewRequest) -> Value:
    return request.variation["guidance_scale"]


def test_batches_hold_one_scale_each() -> None:
    view_requests = requests(["a", "b"], views_per_subject=3, guidance=[1.0, 3.0, 8.0])
    scales = [[scale(request) for request in batch] for batch in batches(view_requests, 8, scale)]
    assert scales == [[1.0, 1.0], [3.0, 3.0], [8.0, 8.0]]


def test_last_batch_is_filled_by_repeating() -> None:
    view_requests = requests(["a"], views_per_subject=2, guidance=[1.0])
    assert fill_up(view_requests, 4) == [
        view_requests[0],
        view_requests[1],
        view_requests[1],
        view_requests[1],
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))
def test_every_request_is_in_one_batch(prompts: int, rounds: int, size: int) -> None:
    view_requests = requests(
        [f"caption {i}" for i in range(prompts)],
        views_per_subject=2 * rounds,
        guidance=[1.0, 3.0],
    )
    made = list(batches(view_requests, size, scale))
    keys = sorted(request.key for batch in made for request in batch)
    assert keys == [request.key for request in view_requests]
    assert all(1 <= len(batch) <= size for batch in made)
    # No more batches than needed: only the last one of each scale may be short.
    assert len(made) == 2 * -(-prompts * rounds // size)
