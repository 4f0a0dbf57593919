from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batching import batches, fill_up
from tests.views_of import requests


def test_batches_hold_one_scale_each() -> None:
    asked = requests(["a", "b"], images_per_prompt=3, guidance=[1.0, 3.0, 8.0])
    found = [[each.guidance_scale for each in batch] for batch in batches(asked, 8)]
    assert found == [[1.0, 1.0], [3.0, 3.0], [8.0, 8.0]]


def test_last_batch_is_filled_by_repeating() -> None:
    asked = requests(["a"], images_per_prompt=2, guidance=[1.0])
    assert fill_up(asked, 4) == [asked[0], asked[1], asked[1], asked[1]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 9))
def test_every_request_is_in_one_batch(prompts: int, rounds: int, size: int) -> None:
    asked = requests(
        [f"caption {i}" for i in range(prompts)],
        images_per_prompt=2 * rounds,
        guidance=[1.0, 3.0],
    )
    found = list(batches(asked, size))
    assert sorted(each.key for batch in found for each in batch) == [each.key for each in asked]
    assert all(1 <= len(batch) <= size for batch in found)
    # As few as can be: only the last batch of each scale may be short.
    assert len(found) == 2 * -(-prompts * rounds // size)
