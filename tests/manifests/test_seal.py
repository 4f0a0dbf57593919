import json
import tracemalloc
from dataclasses import asdict, replace
from typing import Any

import pytest

from manifests.canonical import document_bytes, hash_json
from manifests.errors import CorruptError, ForeignSetError, VersionError
from manifests.seal import Seal, ShardSummary, parse_seal
from tests.sets import refused

WHERE = "s3://bucket/set/dataset.json"
SUMMARY = ShardSummary(
    shard=0,
    tar_sha256="ab" * 32,
    tar_bytes=10240,
    manifest_sha256="cd" * 32,
    num_views=4,
    num_ok=3,
)
SEAL = Seal(
    recipe_sha256="ef" * 32,
    shards=[SUMMARY, replace(SUMMARY, shard=2, num_ok=4)],
    missing=[1],
    files={"README.md": "12" * 32},
)


EXAMPLE = {
    **{"key": "000000000_000", "text": "a", "shard": 0, "offset": 512, "length": 9},
    "sha256": "ab" * 32,
}
ABOUT = {
    **{"kinds": {"caption": 3}, "licences": [["", 3]], "num_other_licences": 0, "labels": "none"},
    "examples": [EXAMPLE],
}


def test_a_seal_says_what_its_set_is_about() -> None:
    seal = parse_seal(signed(about=ABOUT), where=WHERE)
    assert seal.about is not None
    assert seal.about.to_json() == ABOUT


def signed(**changes: Any) -> bytes:
    """The document with other values and a hash that fits them."""
    document = json.loads(SEAL.to_bytes()) | changes
    del document["seal_sha256"]
    return document_bytes(document | {"seal_sha256": hash_json(document)})


def test_seal_round_trip() -> None:
    assert parse_seal(SEAL.to_bytes(), where=WHERE) == SEAL


def test_a_seal_of_many_shards_takes_little_more_memory_than_its_document() -> None:
    """Measured: 1.2 times the document to write it, 3.2 times to read it."""
    names = [f"{number:064d}" for number in range(3000)]
    shards = [
        replace(SUMMARY, shard=shard, tar_sha256=name, manifest_sha256=name[::-1])
        for shard, name in enumerate(names)
    ]
    files = {f"stats/{shard:06d}.json": name for shard, name in enumerate(names)}
    seal = replace(SEAL, shards=shards, missing=[], files=files)
    data = seal.to_bytes()
    for make, times in ((seal.to_bytes, 2), (lambda: parse_seal(data, where=WHERE), 5)):
        tracemalloc.start()
        make()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < times * len(data)


def test_counts_are_the_totals_of_the_shard_table() -> None:
    assert SEAL.counts == {
        "num_shards": 2,
        "num_views": 8,
        "num_ok": 7,
        "num_failed": 1,
        "tar_bytes": 20480,
    }


def test_root_hash_never_changes() -> None:
    expected = "753dfeb6466a4463a6d5c33dbe916bc59df500def0e78f1821f35eb49d71aa1a"
    assert SEAL.root_sha256 == expected


def test_root_hash_does_not_depend_on_advisory_files() -> None:
    assert replace(SEAL, files={"stats/000000.json": "34" * 32}).root_sha256 == SEAL.root_sha256


@pytest.mark.parametrize(
    "other",
    [
        replace(SEAL, recipe_sha256="00" * 32),
        replace(SEAL, missing=[]),
        replace(SEAL, shards=[SUMMARY]),
        replace(SEAL, shards=[replace(SUMMARY, tar_sha256="00" * 32), SEAL.shards[1]]),
        replace(SEAL, shards=[replace(SUMMARY, manifest_sha256="00" * 32), SEAL.shards[1]]),
    ],
)
def test_root_hash_binds_recipe_tars_and_manifests(other: Seal) -> None:
    assert other.root_sha256 != SEAL.root_sha256


def test_every_changed_byte_is_seen() -> None:
    data = SEAL.to_bytes()
    for offset in range(len(data)):
        broken = bytearray(data)
        broken[offset] ^= 1
        with pytest.raises((CorruptError, ForeignSetError, VersionError)):
            parse_seal(bytes(broken), where=WHERE)


def test_newer_major_version_is_refused() -> None:
    with refused(VersionError, WHERE, "format 3.0", "install a newer synth-rep"):
        parse_seal(signed(format_version="3.0", shards=None), where=WHERE)


def test_newer_minor_version_with_unknown_keys_is_read() -> None:
    table = [asdict(summary) | {"mood": "good"} for summary in SEAL.shards]
    assert parse_seal(signed(format_version="2.999", author="x", shards=table), where=WHERE) == SEAL


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": None},
        {"shards": [{}]},
        {"shards": ["x"]},
        {"shards": [asdict(SUMMARY) | {"num_ok": "3"}]},
        {"shards": [asdict(SUMMARY) | {"tar_bytes": 2**70}]},
        {"shards": [asdict(SUMMARY) | {"tar_sha256": 3}]},
        {"missing": ["1"]},
        {"files": {"README.md": 3}},
        {"about": {}},
        {"about": None},
        {"about": {**ABOUT, "labels": "many"}},
        {"about": {**ABOUT, "kinds": {"caption": "3"}}},
        {"about": {**ABOUT, "examples": [EXAMPLE | {"key": "../../x"}]}},
        {"about": {**ABOUT, "examples": [EXAMPLE | {"length": 2**40}]}},
        {"about": {**ABOUT, "examples": [EXAMPLE] * 5}},
        {"missing": 3},
        {"files": "ab"},
        {"counts": {}},
        {"root_sha256": "00" * 32},
    ],
)
def test_a_seal_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with refused(CorruptError, WHERE, "restore it"):
        parse_seal(signed(**changes), where=WHERE)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
def test_a_seal_that_is_not_json_is_refused(data: bytes) -> None:
    with refused(CorruptError, WHERE, "not JSON", "restore it"):
        parse_seal(data, where=WHERE)


def test_another_document_is_foreign() -> None:
    with refused(ForeignSetError, WHERE, "choose another URL"):
        parse_seal(b'{"name": "somebody\'s dataset"}', where=WHERE)
