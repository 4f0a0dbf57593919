import json
from typing import Any

import pytest

from manifests.canonical import document_bytes, hash_json
from manifests.errors import ContractError, CorruptError, ForeignSetError, VersionError
from manifests.foundation.differences import differing_keys
from manifests.recipe import Identity, Recipe, parse_recipe
from tests.sets import CAPTIONS, identity_of, prompt_rows, refused

IDENTITY = identity_of(prompt_rows(*CAPTIONS))
RECIPE = Recipe(
    identity=IDENTITY,
    environment={"pyarrow": "20.0.0"},
    prompt_files={"prompts/000000.parquet": "0" * 64},
)
WHERE = "s3://bucket/set/recipe.json"


def changed(**changes: Any) -> bytes:
    """The document with other values; the hash follows the identity."""
    document = json.loads(RECIPE.to_bytes()) | changes
    if "identity" in changes:
        document["identity_sha256"] = hash_json(document["identity"])
    return document_bytes(document)


def test_hash_of_an_identity_never_changes() -> None:
    assert RECIPE.sha256 == "25bf41a36fabe2f5bc6367ceeea6164f97d2693333475b64c28373503df18b18"


def test_hash_of_an_identity_is_the_one_of_the_worked_example() -> None:
    """SPEC.md, `recipe.json`."""
    identity = Identity(
        dataset_seed=0,
        images_per_prompt=2,
        guidance_scales=(1.0, 3.0),
        num_prompts=1,
        prompts_per_shard=100,
        prompts_sha256="8ae94ad2c0b03d4dbea32eba72baece17ae8f378ba55caf2c226ae8bcb0cec99",
        renderer="gradient",
        renderer_identity={"size_px": 32},
        image={"format": "png", "size_px": 32},
    )
    recipe = Recipe(identity=identity, environment={}, prompt_files={})
    assert recipe.sha256 == "8c07c39563f8370e60272b3c3e6ed57d10a0a152ceb0eb443e546b2fd1dadced"


def test_recipe_round_trip() -> None:
    assert parse_recipe(RECIPE.to_bytes(), where=WHERE) == RECIPE


def test_prompts_of_a_shard_and_the_last_one_is_short() -> None:
    assert IDENTITY.num_shards == 2
    assert [IDENTITY.prompts_in(shard) for shard in range(2)] == [range(0, 2), range(2, 3)]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"images_per_prompt": 0}, ["images_per_prompt is 0", "expected 1 or more"]),
        ({"num_prompts": 0}, ["num_prompts is 0"]),
        ({"prompts_per_shard": -1}, ["prompts_per_shard is -1"]),
        ({"guidance_scales": ()}, ["0 guidance scales", "give a multiple"]),
        ({"guidance_scales": (1.0, 2.0, 3.0)}, ["3 guidance scales", "2 images per prompt"]),
        ({"guidance_scales": (float("nan"),)}, ["guidance nan", "finite number of 0 or more"]),
        ({"guidance_scales": (-1.0,)}, ["guidance -1.0", "finite number of 0 or more"]),
    ],
)
def test_an_identity_that_cannot_be_rendered_is_refused(
    changes: dict[str, Any], parts: list[str]
) -> None:
    with refused(ContractError, *parts):
        identity_of(prompt_rows(*CAPTIONS), **changes)


def test_differing_keys_are_named_to_the_leaf() -> None:
    other = identity_of(
        prompt_rows(*CAPTIONS),
        dataset_seed=8,
        renderer_identity={"model": "easel", "steps": 5, "dtype": "float32"},
    )
    expected = ["dataset_seed", "renderer_identity.dtype", "renderer_identity.steps"]
    assert differing_keys(IDENTITY.to_json(), other.to_json()) == expected
    assert differing_keys(other.to_json(), IDENTITY.to_json()) == expected
    assert differing_keys(IDENTITY.to_json(), IDENTITY.to_json()) == []
    nested = identity_of(
        prompt_rows(*CAPTIONS), renderer_identity={"model": {"unet": "ab"}, "steps": 4}
    )
    assert differing_keys(IDENTITY.to_json(), nested.to_json()) == ["renderer_identity.model"]
    assert differing_keys(nested.to_json(), IDENTITY.to_json()) == ["renderer_identity.model"]


def test_newer_major_version_is_refused() -> None:
    with refused(VersionError, WHERE, "format 2.0", "up to 1.x", "install a newer synth-rep"):
        parse_recipe(changed(format_version="2.0"), where=WHERE)


def test_newer_minor_version_with_unknown_keys_is_read() -> None:
    identity = IDENTITY.to_json() | {"tiling": "none"}
    data = changed(format_version="1.7", identity=identity, author="somebody")
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
        (changed(identity=IDENTITY.to_json() | {"guidance_scales": [10**400]}), "not a whole"),
        (changed(identity=IDENTITY.to_json() | {"num_prompts": "3"}), "not a whole"),
        (changed(identity=IDENTITY.to_json() | {"num_prompts": 0}), "expected 1 or more"),
        (changed(identity={"dataset_seed": 7}), "not a whole recipe"),
    ],
)
def test_broken_recipe_is_one_line(data: bytes, part: str) -> None:
    with refused(CorruptError, WHERE, part):
        parse_recipe(data, where=WHERE)


def test_whole_number_as_guidance_is_the_float() -> None:
    rows = prompt_rows("a red fox")
    scales = [identity_of(rows, guidance_scales=each) for each in ((1, 3), (1.0, 3.0))]
    assert hash_json(scales[0].to_json()) == hash_json(scales[1].to_json())
