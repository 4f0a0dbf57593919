from pathlib import Path

import pytest

from manifests.card import size_category
from tests.sets import make_set


@pytest.mark.parametrize(
    ("num_images", "name"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (10**6, "1M<n<10M"),
        (10**8 - 1, "10M<n<100M"),
        (10**8, "n>100M"),
    ],
)
def test_size_category_is_the_hub_s_name(num_images: int, name: str) -> None:
    assert size_category(num_images) == name


def test_card_names_the_tars_and_the_counts(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    seal = shards.seal()
    assert seal is not None
    card = (tmp_path / "README.md").read_text()
    header, body = card.removeprefix("---\n").split("---\n", 1)
    assert "path: data/*.tar" in header
    assert "n<1K" in header
    for line in (
        "| subjects | 3 |",
        "| views of each subject | 2 |",
        "| guidance_scale | 1.0, 3.0 |",
        "| steps | 4 |",
        "| images | 5 in 2 tars, 30,720 bytes |",
        "| views that failed | 1 |",
        "| missing shards | 0 |",
        "| model | easel |",
        f"| recipe | `{shards.recipe_sha256}` |",
        f"| root | `{seal.root_sha256}` |",
    ):
        assert line in body
