import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests.canonical import document_bytes
from manifests.errors import CorruptError
from manifests.origin import Origin, Part, SourceSet, parse_origin
from manifests.recipe import parse_recipe
from manifests.seal_writer import seal_set
from tests.sets import begin, commit, refused

SPLIT = Origin(
    verb="split",
    sets=(SourceSet(root_sha256="r" * 64, recipe_sha256="s" * 64),),
    part=Part(name="val", seed=0, start=0.9, stop=1.0),
)


def test_origin_is_read_as_it_is_written() -> None:
    for origin in (SPLIT, replace(SPLIT, verb="grow", part=None)):
        assert parse_origin(json.loads(json.dumps(origin.to_json()))) == origin


def test_origin_of_a_newer_version_is_read() -> None:
    document = SPLIT.to_json()
    document = {**document, "verb": "select", "why": "loss"}
    document["sets"] = [{**document["sets"][0], "url": "s3://sets/a"}]
    assert parse_origin(document) == replace(SPLIT, verb="select")


def test_origin_is_no_part_of_the_identity_and_its_recipe_is_of_version_2_3(
    tmp_path: Path,
) -> None:
    shards = begin(tmp_path)
    recipe = replace(shards.recipe, origin=SPLIT)
    assert recipe.sha256 == shards.recipe_sha256
    assert b'"format_version": "2.0"' in shards.recipe.to_bytes()
    assert b'"format_version": "2.3"' in recipe.to_bytes()
    assert parse_recipe(recipe.to_bytes(), where="recipe.json") == recipe


@pytest.mark.parametrize(
    "origin",
    [
        None,
        [],
        {"verb": "grow"},
        {"verb": "grow", "sets": []},
        {"verb": "grow", "sets": [{"root_sha256": "r"}]},
        {"verb": "grow", "sets": [{"root_sha256": 1, "recipe_sha256": "s"}]},
        {"verb": 3, "sets": [{"root_sha256": "r", "recipe_sha256": "s"}]},
        {**SPLIT.to_json(), "part": {"name": "val", "seed": 0, "start": 0, "stop": 1.0}},
        {**SPLIT.to_json(), "part": "val"},
    ],
)
def test_a_broken_origin_is_refused(tmp_path: Path, origin: Any) -> None:
    document = json.loads(begin(tmp_path).recipe.to_bytes()) | {"origin": origin}
    with refused(CorruptError, "recipe.json", "restore it"):
        parse_recipe(document_bytes(document), where="recipe.json")


def test_card_says_what_a_set_was_made_from(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    shards.recipe = replace(shards.recipe, origin=SPLIT)
    for shard in (0, 1):
        commit(shards, shard)
    seal_set(shards)
    line = f"| split from | `{'r' * 64}`, part val: 0.9 to 1 with seed 0 |"
    assert line in (tmp_path / "README.md").read_text().splitlines()
