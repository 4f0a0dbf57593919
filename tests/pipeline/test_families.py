"""Every family of text-to-image pipelines is right, or refused for its true reason.

The table docs/families.md is what these trials give, so it cannot go stale.
"""

from pathlib import Path

import pytest

from benchmarks.families import TABLE, try_family
from tests.tiny_models import ALL_FAMILIES, build

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

REFUSED = {"kandinsky22"}
"""It has two stages, which are two models."""
HEAVY = {"hidream", "kandinsky5-t2i"}
"""Their smallest pictures take a minute, so `python -m benchmarks.families` alone tries them."""


@pytest.mark.parametrize("family", sorted(ALL_FAMILIES.keys() - HEAVY))
def test_a_family_is_what_the_table_says(family: str, tmp_path: Path) -> None:
    trial = try_family(family, build(family, tmp_path / family))
    assert all(trial.proven.values()), trial
    assert bool(trial.refusal) == (family in REFUSED), trial
    assert trial.row() in TABLE.read_text().splitlines()


def test_the_table_has_a_row_for_every_family() -> None:
    lines = TABLE.read_text().splitlines()
    families = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert families[1:] == list(ALL_FAMILIES)
