import pytest

from manifests.errors import CollisionError
from manifests.rows import PromptRow
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.merging import merge_prompts
from prompts.prompt import Prompt
from tests.sets import refused

FOX, DOOR = 8945900202904087436, 5845563456268224687


def prompt(caption: str, row: int = 1, **columns: str) -> Prompt:
    return Prompt(caption=caption, where=f"list.csv, row {row}", **columns)


def test_groups_follow_each_other_in_the_order_of_first_appearance() -> None:
    rows = merge_prompts([prompt("a red fox"), prompt("a blue door"), prompt("a red fox")])
    assert [(row.group_index, row.group_id, row.prompt, row.num_merged) for row in rows] == [
        (0, FOX, "a red fox", 2),
        (1, DOOR, "a blue door", 1),
    ]


def test_the_first_row_of_a_caption_wins() -> None:
    first = prompt("a red fox", licence="CC0-1.0", source="one", negative_prompt="blurred")
    second = prompt("a red fox", 2, licence="MIT", source="two", negative_prompt="dark")
    assert merge_prompts([first, second]) == [
        PromptRow(
            group_index=0,
            group_id=FOX,
            prompt="a red fox",
            negative_prompt="blurred",
            licence="CC0-1.0",
            source="one",
            num_merged=2,
        )
    ]


def test_captions_that_differ_in_white_space_are_one() -> None:
    rows = merge_prompts([prompt("a red  fox"), prompt("\ta red\u2028fox\r\n", 2)])
    assert [(row.prompt, row.num_merged) for row in rows] == [("a red fox", 2)]


def test_captions_that_are_equal_in_nfc_are_one() -> None:
    rows = merge_prompts([prompt("un cafe\u0301"), prompt("un caf\u00e9", 2)])
    assert [(row.prompt, row.num_merged) for row in rows] == [("un caf\u00e9", 2)]


def test_captions_that_differ_in_case_are_two() -> None:
    rows = merge_prompts([prompt("a red fox"), prompt("A red fox", 2)])
    assert [(row.prompt, row.num_merged) for row in rows] == [("a red fox", 1), ("A red fox", 1)]


def test_other_columns_are_stripped_and_the_negative_prompt_is_canonical() -> None:
    (row,) = merge_prompts(
        [prompt("a", label=" fox ", licence=" MIT\n", source=" x ", negative_prompt=" too  dark ")]
    )
    assert (row.label, row.licence, row.source) == ("fox", "MIT", "x")
    assert row.negative_prompt == "too dark"


def test_labels_that_differ_in_white_space_do_not_conflict() -> None:
    (row,) = merge_prompts([prompt("a", label="fox"), prompt("a", 2, label=" fox ")])
    assert (row.label, row.num_merged) == ("fox", 2)


@pytest.mark.parametrize("label", ["wolf", ""])
def test_two_labels_of_one_caption_are_refused_with_both_rows(label: str) -> None:
    rows = [prompt("a red fox", 3, label="fox"), prompt(" a red fox", 8, label=label)]
    with refused(
        ConflictingLabelError,
        f"list.csv, row 8: label {label!r} for 'a red fox'",
        "list.csv, row 3 says 'fox'",
        "give one caption one label",
    ):
        merge_prompts(rows)


def test_nothing_but_white_space_is_refused() -> None:
    with refused(BadPromptError, "list.csv, row 4: nothing but white space"):
        merge_prompts([prompt("\u2028 \t", 4)])


def test_two_texts_with_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such pair is known, so the hash is weakened here."""
    monkeypatch.setattr("prompts.merging.group_id", lambda kind, text: len(text))
    assert len(merge_prompts([prompt("a fox"), prompt("two foxes", 2)])) == 2
    with refused(
        CollisionError,
        "list.csv, row 2: 'b fox' and 'a fox' (list.csv, row 1) share the id 5",
        "change one of them",
    ):
        merge_prompts([prompt("a fox"), prompt("b fox", 2)])


def test_nothing_merges_to_nothing() -> None:
    assert merge_prompts([]) == []
