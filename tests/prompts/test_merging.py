import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.columns import DeclaredColumn
from manifests.errors import CollisionError
from manifests.rows import SubjectRow
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.merging import merge_subjects
from prompts.subject import Subject
from tests.running import environment
from tests.sets import refused

FOX, DOOR = 8945900202904087436, 5845563456268224687
"""Ids of "a red fox" and "a blue door"."""


def subject(text: str, row: int = 1, **columns: Any) -> Subject:
    return Subject(text=text, where=f"list.csv, row {row}", **columns)


def test_groups_follow_each_other_in_the_order_of_first_appearance() -> None:
    rows = merge_subjects([subject("a red fox"), subject("a blue door"), subject("a red fox")])
    assert [(row.group_index, row.group_id, row.text, row.num_merged) for row in rows] == [
        (0, FOX, "a red fox", 2),
        (1, DOOR, "a blue door", 1),
    ]


def test_the_first_row_of_a_caption_wins() -> None:
    first = subject("a red fox", licence="CC0-1.0", source="one", values={"avoid": "blur"})
    second = subject("a red fox", 2, licence="MIT", source="two", values={"avoid": "dark"})
    avoid = DeclaredColumn("avoid", "string", "what not to show", scope="subject")
    assert list(merge_subjects([first, second], [avoid])) == [
        SubjectRow(
            group_index=0,
            group_id=FOX,
            kind="caption",
            text="a red fox",
            licence="CC0-1.0",
            source="one",
            num_merged=2,
            values={"avoid": "blur"},
        )
    ]


def test_captions_that_differ_in_white_space_are_one() -> None:
    rows = merge_subjects([subject("a red  fox"), subject("\ta red\u2028fox\r\n", 2)])
    assert [(row.text, row.num_merged) for row in rows] == [("a red fox", 2)]


def test_captions_that_are_equal_in_nfc_are_one() -> None:
    rows = merge_subjects([subject("un cafe\u0301"), subject("un caf\u00e9", 2)])
    assert [(row.text, row.num_merged) for row in rows] == [("un caf\u00e9", 2)]


def test_captions_that_differ_in_case_are_two() -> None:
    rows = merge_subjects([subject("a red fox"), subject("A red fox", 2)])
    assert [(row.text, row.num_merged) for row in rows] == [("a red fox", 1), ("A red fox", 1)]


def test_other_columns_are_stripped() -> None:
    (row,) = merge_subjects([subject("a", label=" fox ", licence=" MIT\n", source=" x ")])
    assert (row.label, row.licence, row.source) == ("fox", "MIT", "x")


def test_labels_that_differ_in_white_space_do_not_conflict() -> None:
    (row,) = merge_subjects([subject("a", label="fox"), subject("a", 2, label=" fox ")])
    assert (row.label, row.num_merged) == ("fox", 2)


@pytest.mark.parametrize("label", ["wolf", ""])
def test_two_labels_of_one_caption_are_refused_with_both_rows(label: str) -> None:
    rows = [subject("a red fox", 3, label="fox"), subject(" a red fox", 8, label=label)]
    with refused(
        ConflictingLabelError,
        f"list.csv, row 8: label {label!r} for 'a red fox'",
        "list.csv, row 3 says 'fox'",
        "give one caption one label",
    ):
        merge_subjects(rows)


def test_nothing_but_white_space_is_refused() -> None:
    with refused(BadPromptError, "list.csv, row 4: nothing but white space"):
        merge_subjects([subject("\u2028 \t", 4)])


def test_two_texts_with_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two texts with one id are known, so the test replaces the hash by the text's length."""
    monkeypatch.setattr("prompts.merging.group_id", lambda kind, text: len(text))
    assert len(merge_subjects([subject("a fox"), subject("two foxes", 2)])) == 2
    with refused(
        CollisionError,
        "list.csv, row 2: 'b fox' and 'a fox' (list.csv, row 1) share the id 5",
        "change one of them",
    ):
        merge_subjects([subject("a fox"), subject("b fox", 2)])


def test_nothing_merges_to_nothing() -> None:
    rows = merge_subjects([])
    assert not rows
    assert list(rows) == []


@given(texts=st.lists(st.sampled_from("abcdefghij"), max_size=60), batch=st.integers(1, 7))
def test_rows_and_slices_are_those_of_a_dictionary(texts: list[str], batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prompts.merging._BATCH_ROWS", batch)
        rows = merge_subjects([subject(text, number) for number, text in enumerate(texts)])
        expected = [*dict.fromkeys(texts)]
        assert [(row.text, row.num_merged, row.group_index) for row in rows] == [
            (text, texts.count(text), index) for index, text in enumerate(expected)
        ]
        whole = list(rows)
        assert len(rows) == len(whole)
        for start in range(len(whole)):
            assert rows[start] == whole[start]
            assert rows[start - len(whole)] == whole[start]
            assert rows[start::3] == whole[start::3]
        with pytest.raises(IndexError):
            rows[len(whole)]


def test_a_long_text_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prompts.merging._BATCH_CHARS", 10)
    texts = ["a", "b" * 30, "c", "d", "e" * 9, "f"]
    assert [row.text for row in merge_subjects(map(subject, texts))] == texts


def test_of_several_conflicts_the_first_row_is_named() -> None:
    labels = ["x", "y", "x", "z", "q"]
    rows = [
        subject(text, number, label=label)
        for number, (text, label) in enumerate(zip("abbaa", labels, strict=True))
    ]
    with refused(ConflictingLabelError, "row 2: label 'x' for 'b'", "row 1 says 'y'"):
        merge_subjects(rows)


def test_memory_does_not_hold_the_texts() -> None:
    """In a process of its own: 300,000 captions of 1,000 characters in less than 96 MB."""
    code = """
from benchmarks.machine import resident_bytes
from prompts.merging import merge_subjects
from prompts.subject import Subject
merge_subjects([Subject(text="a")]).sha256
before = resident_bytes("VmRSS")
rows = merge_subjects(Subject(text=f"{n} " + "words " * 166) for n in range(300_000))
assert len(rows.sha256) == 64 and rows[299_999].text.startswith("299999 ")
print(resident_bytes("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 96 << 20


def test_a_full_disk_is_named() -> None:
    """In a process of its own, in which no file may grow beyond 64 kB."""
    code = """
import resource, signal
from prompts.merging import merge_subjects
from prompts.subject import Subject
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
merge_subjects(Subject(text=f"number {n * n}") for n in range(100_000))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert "ConfigError: scratch cannot be written" in done.stderr
    assert "set TMPDIR" in done.stderr


def test_equal_texts_of_two_kinds_are_two_subjects() -> None:
    rows = merge_subjects([subject("12"), subject("12", 2, kind="latent")])
    assert [(row.kind, row.text, row.num_merged) for row in rows] == [
        ("caption", "12", 1),
        ("latent", "12", 1),
    ]
    assert rows[0].group_id != rows[1].group_id


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"text": 5}, "text is 5"),
        ({"text": "a\0fox"}, "zero bytes"),
        ({"text": "a \ud800 fox"}, "halves of characters"),
        ({"text": "a" * ((1 << 20) + 1)}, "at most 1,048,576 characters"),
        ({"text": "a", "kind": None}, "kind is None"),
        ({"text": "a", "label": 3}, "label is 3"),
        ({"text": "a", "values": {"mood": "calm"}}, "mood is no declared column"),
        ({"text": "a", "values": {}}, "weight is None, expected a value of type double"),
        ({"text": "a", "values": {"weight": 1}}, "weight is 1, expected a value of type double"),
    ],
)
def test_subject_that_no_set_can_hold(bad: dict[str, Any], words: str) -> None:
    weight = DeclaredColumn("weight", "double", "a number", scope="subject")
    columns = [weight] if words.startswith("weight") else []
    with refused(BadPromptError, "list.csv, row 1", words):
        merge_subjects([Subject(where="list.csv, row 1", **bad)], columns)


def test_what_is_no_subject() -> None:
    with refused(BadPromptError, "subject 2 is 'a fox'"):
        merge_subjects([subject("a"), "a fox"])  # type: ignore[list-item]


def test_rows_that_were_merged_before_are_counted() -> None:
    subjects = [
        Subject(text="a fox", num_rows=3),
        Subject(text="a door", num_rows=2),
        Subject(text="a  fox"),
    ]
    assert [(row.text, row.num_merged) for row in merge_subjects(subjects)] == [
        ("a fox", 4),
        ("a door", 2),
    ]
    with pytest.raises(BadPromptError, match="num_rows is 0, expected 1 or more"):
        merge_subjects([Subject(text="a fox", num_rows=0)])
