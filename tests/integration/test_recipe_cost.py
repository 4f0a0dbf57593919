"""The table of what recipes take: it has them all, and the page about training shows it."""

import json

import pytest

from benchmarks.recipe_cost import PUBLISHED, RESULTS, cost, published_ranks, row_of, table
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def recorded() -> dict[str, dict[str, float]]:
    return json.loads(RESULTS.read_text())["rows"]


def test_page_shows_every_published_recipe_as_it_was_recorded() -> None:
    rows = recorded()
    assert sorted(rows) == PUBLISHED
    page = (ROOT / "docs" / "train.md").read_text()
    assert [line for line in table(rows) if line not in page] == []


def test_row_that_is_worked_out_anew_is_the_recorded_one() -> None:
    name = "shaders21k-small-simclr"
    row, expected = row_of(name), recorded()[name]
    assert row.keys() == expected.keys()
    for key, value in row.items():
        # What a step holds differs a little between versions of torch.
        near = pytest.approx(expected[key], rel=0.05) if "bytes" in key else expected[key]
        assert value == near, key
    assert row["cached_refused"] == "batch norms"


def test_rank_of_a_recipe_has_its_share_of_the_batch() -> None:
    assert (published_ranks("stablerep-plus-laion"), published_ranks("synclr-l14")) == (32, 32)
    assert (published_ranks("shaders21k-moco"), published_ranks("genrep-bigbigan")) == (4, 1)
    quarter, half = (cost("shaders21k-small-simclr", world).step_multiply_adds for world in (4, 2))
    assert half == pytest.approx(2 * quarter, rel=0.05)
