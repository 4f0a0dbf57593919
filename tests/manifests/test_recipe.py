import json
from dataclasses import replace
from typing import Any

import pytest

from manifests.canonical import document_bytes, hash_json
from manifests.columns import DeclaredColumn
from manifests.errors import ContractError, CorruptError, ForeignSetError, VersionError
from manifests.foundation.differences import differing_keys
from manifests.recipe import Identity, Recipe, parse_recipe
from tests.sets import CAPTIONS, COLUMNS, identity_of, refused, scales, size, subject_rows

IDENTITY = identity_of(subject_rows(*CAPTIONS))
RECIPE = Recipe(
    identity=IDENTITY,
    environment={"pyarrow": "20.0.0"},
    subject_files={"subjects/000000.parquet": "0" * 64},
)
WHERE = "s3://bucket/set/recipe.json"


def changed(**changes: Any) -> bytes:
    """The recipe with other values, and a hash that fits a changed identity."""
    document = json.loads(RECIPE.to_bytes()) | changes
    if "identity" in changes:
        document["identity_sha256"] = hash_json(document["identity"])
    return document_bytes(document)


def test_hash_of_an_identity_never_changes() -> None:
    assert RECIPE.sha256 == "77a1819f89075d5eade79fdd38f61b15b77ed30bb5a85e0381d4bd40573f8efa"


def test_hash_of_an_identity_is_that_of_the_worked_example() -> None:
    """SPEC.md, `recipe.json`."""
    identity = Identity(
        dataset_seed=0,
        views_per_subject=2,
        variations=[{"angle": 0.0}, {"angle": 90.0}],
        paired=False,
        num_subjects=1,
        subjects_per_shard=100,
        subjects_sha256="3bd6d6b15ed8dc7e35dbf0d9f50b0ead1ac034989f4445a4dd6c7edc3de3c5f3",
        renderer="stripes",
        renderer_identity={"version": 1},
        model="stripes",
        revision="1",
        columns=[DeclaredColumn("angle", "double", "direction", "degrees", scope="variation")],
        constants={},
        render_width_px=32,
        render_height_px=32,
        width_px=32,
        height_px=32,
        format="png",
        encoding={},
        audits=[{"name": "non-finite"}],
    )
    recipe = Recipe(identity=identity, environment={}, subject_files={})
    assert recipe.sha256 == "997c60d200536a1a31e5bc65a82f14147ddacfc6dc0e45679dfa66a954119f18"


def test_recipe_round_trip() -> None:
    assert parse_recipe(RECIPE.to_bytes(), where=WHERE) == RECIPE


def test_a_recipe_has_the_lowest_version_that_has_all_that_it_uses() -> None:
    assert json.loads(RECIPE.to_bytes())["format_version"] == "2.0"
    assert "sizes" not in json.loads(RECIPE.to_bytes())["identity"]
    sizes = [size(8, 8), size(12, 8)]
    recipe = replace(RECIPE, identity=replace(IDENTITY, sizes=sizes))
    data = recipe.to_bytes()
    assert json.loads(data)["format_version"] == "2.1"
    assert json.loads(data)["identity"]["sizes"] == sizes
    assert parse_recipe(data, where=WHERE) == recipe
    assert [recipe.identity.size_of(view)["width_px"] for view in range(4)] == [8, 12, 8, 12]


def test_the_last_shard_has_the_subjects_that_are_left() -> None:
    assert IDENTITY.num_shards == 2
    assert [IDENTITY.subjects_in(shard) for shard in range(2)] == [range(0, 2), range(2, 3)]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"views_per_subject": 0}, ["views_per_subject is 0", "expected 1 to 1,000"]),
        ({"views_per_subject": 1001}, ["views_per_subject is 1001"]),
        ({"num_subjects": 0}, ["num_subjects is 0"]),
        ({"num_subjects": 8.0}, ["num_subjects is 8.0"]),
        ({"num_subjects": True}, ["num_subjects is True"]),
        ({"num_subjects": 10**15}, ["num_subjects is 1000000000000000", "to 1,000,000,000"]),
        ({"num_subjects": 10**9}, ["500,000,000 shards", "at most 1,000,000"]),
        ({"num_subjects": 10**9, "subjects_per_shard": 10**6}, ["more than 1,000,000 views"]),
        ({"subjects_per_shard": -1}, ["subjects_per_shard is -1"]),
        ({"dataset_seed": 2**63}, ["dataset_seed is"]),
        ({"width_px": 10**6}, ["width_px is 1000000"]),
        ({"format": "exe"}, ["format 'exe'", "png, jpg"]),
        ({"paired": 1}, ["paired is 1"]),
        ({"model": None}, ["model is None", "expected a text"]),
        ({"encoding": []}, ["encoding is []", "expected an object"]),
        ({"audits": [{"min_levels": 8}]}, ["has no name"]),
        ({"variations": ()}, ["0 variations", "give a multiple"]),
        ({"variations": scales(1.0, 2.0, 3.0)}, ["3 variations", "2 views of each subject"]),
        ({"variations": scales(float("nan"))}, ["guidance_scale is nan"]),
        ({"variations": [{"guidance_scale": 1}]}, ["guidance_scale is 1", "type double"]),
        ({"variations": [{}]}, ["variation: guidance_scale is None"]),
        ({"constants": {"steps": 4, "mood": "good"}}, ["constants: mood is no declared column"]),
        ({"columns": COLUMNS * 2}, ["'steps'", "comes twice"]),
        ({"sizes": [size(8, 8)]}, ["1 sizes for 2 variations", "one for each"]),
        ({"sizes": [size(12, 8), size(8, 8)]}, ["the first as in the identity"]),
        ({"sizes": [size(8, 8), size(8, 8)]}, ["the same for all variations"]),
        ({"sizes": [size(8, 8), size(0, 8)]}, ["render_width_px is 0"]),
        ({"sizes": [size(8, 8), {"width_px": 8}]}, ["size {'width_px': 8}, expected render_w"]),
        ({"sizes": [size(8, 8), 8]}, ["size 8, expected render_width_px"]),
    ],
)
def test_an_identity_that_cannot_be_rendered_is_refused(
    changes: dict[str, Any], parts: list[str]
) -> None:
    with refused(ContractError, *parts):
        identity_of(subject_rows(*CAPTIONS), **changes)


def test_differing_keys_are_named_to_the_leaf() -> None:
    other = identity_of(
        subject_rows(*CAPTIONS),
        dataset_seed=8,
        renderer_identity={"model": "easel", "brush": 5, "dtype": "float32"},
    )
    expected = ["dataset_seed", "renderer_identity.brush", "renderer_identity.dtype"]
    assert differing_keys(IDENTITY.to_json(), other.to_json()) == expected
    assert differing_keys(other.to_json(), IDENTITY.to_json()) == expected
    assert differing_keys(IDENTITY.to_json(), IDENTITY.to_json()) == []
    nested = identity_of(
        subject_rows(*CAPTIONS), renderer_identity={"model": {"unet": "ab"}, "brush": 4}
    )
    assert differing_keys(IDENTITY.to_json(), nested.to_json()) == ["renderer_identity.model"]
    assert differing_keys(nested.to_json(), IDENTITY.to_json()) == ["renderer_identity.model"]


def test_newer_major_version_is_refused() -> None:
    with refused(VersionError, WHERE, "format 3.0", "reads 2.x", "install a newer synth-rep"):
        parse_recipe(changed(format_version="3.0"), where=WHERE)


def test_newer_minor_version_with_unknown_keys_is_read() -> None:
    identity = IDENTITY.to_json() | {"tiling": "none"}
    data = changed(format_version="2.7", identity=identity, author="somebody")
    recipe = parse_recipe(data, where=WHERE)
    assert recipe.identity == IDENTITY
    assert recipe.unknown == {"tiling": "none"}
    assert recipe.sha256 == hash_json(identity)  # what its tars and manifests carry


def test_changed_identity_is_seen() -> None:
    data = RECIPE.to_bytes().replace(b'"dataset_seed": 7', b'"dataset_seed": 8')
    with refused(CorruptError, WHERE, "was changed", "restore it"):
        parse_recipe(data, where=WHERE)


@pytest.mark.parametrize("data", [b'{"format": "other"}', b"[]", b"null", b"{}", b'"text"'])
def test_another_document_is_foreign(data: bytes) -> None:
    with refused(ForeignSetError, WHERE, "choose another URL"):
        parse_recipe(data, where=WHERE)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (changed(format_version="new"), "format version 'new'"),
        (changed(identity=[]), "not a whole recipe"),
        (changed(environment="ab"), "not a whole recipe"),
        (changed(environment=None), "not a whole recipe"),
        (changed(identity=IDENTITY.to_json() | {"variations": [10**400]}), "not a whole recipe"),
        (changed(identity=IDENTITY.to_json() | {"num_subjects": "3"}), "not a whole recipe"),
        (changed(identity=IDENTITY.to_json() | {"num_subjects": 0}), "expected 1 to 1,000,000,000"),
        (changed(identity={"dataset_seed": 7}), "not a whole recipe"),
        (changed(identity=IDENTITY.to_json() | {"columns": 3}), "expected a list"),
        (changed(identity=IDENTITY.to_json() | {"variations": {}}), "expected a list"),
        (changed(settings=None), "not a whole recipe"),
    ],
)
def test_a_broken_recipe_is_refused_in_one_line(data: bytes, part: str) -> None:
    with refused(CorruptError, WHERE, part):
        parse_recipe(data, where=WHERE)


def test_a_recipe_of_an_older_version_is_refused() -> None:
    with refused(VersionError, WHERE, "format 1.0", "reads 2.x", "make the set again"):
        parse_recipe(changed(format_version="1.0"), where=WHERE)


def test_a_deeply_nested_recipe_is_refused_in_one_line() -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    data = changed(identity=IDENTITY.to_json() | {"renderer_identity": deep})
    for copies in (1, 1000):
        text = data.replace(b"{}", b"{" + b'"a": {' * copies + b"}" * copies + b"}", 1)
        with refused(CorruptError, WHERE, "restore it"):
            parse_recipe(text, where=WHERE)
