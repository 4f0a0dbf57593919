from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.columns import Value
from pipeline.batching import batches, fill_up
from pipeline.views import ViewRequest
from tests.views_of import requests


def scale(request: ViewRequest) -> Value:
    return request.variation["guidance_scale"]


def test_batches_hold_one_scale_each() -> None:
    asked = requests(["a", "b"], views_per_subject=3, guidance=[1.0, 3.0, 8.0])
    found = [[scale(request) for request in batch] for batch in batches(asked, 8, scale)]
    assert found == [[1.0, 1.0], [3.0, 3.0], [8.0, 8.0]]


def test_last_batch_is_filled_by_repeating() -> None:
    asked = requests(["a"], views_per_subject=2, guidance=[1.0])
    assert fill_up(asked, 4) == [asked[0], asked[1], asked[1], asked[1]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))
def test_every_request_is_in_one_batch(prompts: int, rounds: int, size: int) -> None:
    asked = requests(
        [f"caption {i}" for i in range(prompts)],
        views_per_subject=2 * rounds,
        guidance=[1.0, 3.0],
    )
    found = list(batches(asked, size, scale))
    assert sorted(r.key for batch in found for r in batch) == [r.key for r in asked]
    assert all(1 <= len(batch) <= size for batch in found)
    # As few as can be: only the last batch of each scale may be short.
    assert len(found) == 2 * -(-prompts * rounds // size)
