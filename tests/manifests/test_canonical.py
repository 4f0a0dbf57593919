from pathlib import Path
from typing import Any

import pytest

from manifests.canonical import (
    canonical_json,
    document_bytes,
    hash_file,
    hash_json,
    hash_large_json,
    is_document,
    sha256_hex,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_canonical_json_sorts_keys_and_leaves_no_space() -> None:
    assert canonical_json({"b": [1, 2.0], "a": "é"}) == '{"a":"é","b":[1,2.0]}'


def test_hash_of_json_does_not_depend_on_the_order_of_keys() -> None:
    expected = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) == expected


def test_documents_are_indented_and_end_in_a_newline() -> None:
    assert document_bytes({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        document_bytes(value)


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    assert hash_file(tmp_path / "abc") == sha256_hex(b"abc") == ABC
    assert hash_file(tmp_path / "large") == sha256_hex(bytes(3 << 20))


VALUES = (
    {"b": [{"d": [1, 2.0], "c": "é"}, []], "a": {"é": {}, "e": None}},
    [["a", 1], ("b", [True]), {}, "text"],
    "text",
    3,
    {},
    [],
)


@pytest.mark.parametrize("value", VALUES)
def test_a_large_value_has_the_hash_of_its_whole_text(value: Any) -> None:
    assert hash_large_json(value) == hash_json(value)


def test_lists_that_are_hashed_may_be_made_one_item_at_a_time() -> None:
    assert hash_large_json({"a": iter([[1], [2]])}) == hash_json({"a": [[1], [2]]})


@pytest.mark.parametrize("value", VALUES)
def test_a_document_is_known_by_all_of_its_bytes(value: Any) -> None:
    data = document_bytes(value)
    assert is_document(data, value)
    for other in (data[:-1], data + b"\n", b" " + data, data.replace(b"\n", b"\r\n"), b""):
        assert not is_document(other, value)
