from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from manifests.card import dataset_card, size_category
from manifests.origin import Origin, Part, SourceSet
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


HOSTILE = "a <script>x</script> | [y](z) \x1b[31m \u202ered`"


def test_what_a_set_says_is_no_markup_in_its_card(tmp_path: Path) -> None:
    make_set(tmp_path, captions=(HOSTILE, "a door"), model=HOSTILE)
    card = (tmp_path / "README.md").read_text()
    header, body = card.removeprefix("---\n").split("---\n", 1)
    assert HOSTILE not in card
    assert "<script>" not in body
    assert "[y](z)" not in body
    assert not {"\x1b", "\u202e"} & {*card}
    name = yaml.safe_load(header)["pretty_name"]
    assert name.startswith("2 captions x 2 views by a <script>x</script>")
    assert "\x1b" not in name


def test_header_has_what_hubs_ask_for(tmp_path: Path) -> None:
    make_set(tmp_path)
    header = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert header["pretty_name"] == "3 captions x 2 views by easel"
    assert header["license"] == "other"
    assert header["task_categories"] == ["image-feature-extraction", "text-to-image"]


def test_card_shows_views_that_lie_beside_it(tmp_path: Path) -> None:
    make_set(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for key in ("000000000_000", "000000000_001"):
        assert f"![](examples/{key}.png)" in card
        assert (tmp_path / f"examples/{key}.png").read_bytes().startswith(b"\x89PNG")
    assert "Views of: a red fox" in card
    assert "| not stated | 3 |" in card


def test_the_part_of_a_split_set_is_no_markup_in_its_card(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    seal = shards.seal()
    assert seal is not None
    part = Part(name=f"{HOSTILE}\n# x", seed=0, start=0.0, stop=0.5)
    sets = (SourceSet(root_sha256="<b>", recipe_sha256="r"),)
    recipe = replace(shards.recipe, origin=Origin(verb="split", sets=sets, part=part))
    card = dataset_card(recipe, seal)
    assert "<script>" not in card
    assert "<b>" not in card
    assert "\n# x" not in card
