import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ContractError
from manifests.ids import canonical_text, group_id, parse_key, view_key, view_seed
from tests.sets import refused

FOX = 8945900202904087436
INT63 = st.integers(0, 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\tred   fox\n", "a red fox"),
        ("Cafe\u0301 au\u00a0lait", "Caf\u00e9 au lait"),
        ("a\u2028b\x0bc", "a b c"),
        ("A Red Fox", "A Red Fox"),
        (" \r\n", ""),
    ],
)
def test_canonical_text_is_nfc_with_single_spaces_and_its_case(text: str, expected: str) -> None:
    assert canonical_text(text) == expected


@given(TEXTS)
@settings(max_examples=200)
def test_canonical_text_of_canonical_text_is_itself(text: str) -> None:
    assert canonical_text(canonical_text(text)) == canonical_text(text)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("caption", "a red fox", FOX),
        ("caption", "a blue door", 5845563456268224687),
        ("caption", "Caf\u00e9", 6989605089466276200),
        ("caption", "", 4182228355719700045),
        ("latent", "a red fox", 4685975536136618237),
    ],
)
def test_group_ids_never_change(kind: str, text: str, expected: int) -> None:
    assert group_id(kind, text) == expected


@given(TEXTS)
@settings(max_examples=200)
def test_group_id_fits_a_signed_64_bit_integer(text: str) -> None:
    assert 0 <= group_id("caption", text) < 2**63


@pytest.mark.parametrize(
    ("dataset_seed", "view_index", "expected"),
    [
        (0, 0, 2937282042),
        (0, 2, 2937282044),
        (7, 0, 1109010120),
        (2**63 - 1, 999, 2495270492),
        (7077890, 0, 4294966813),
        (7077890, 999, 516),  # beyond 2**32 - 1 the seeds start again at 0
    ],
)
def test_view_seeds_never_change(dataset_seed: int, view_index: int, expected: int) -> None:
    assert view_seed(dataset_seed, FOX, view_index) == expected


@given(INT63, INT63, st.integers(0, 998))
@settings(max_examples=100)
def test_seeds_of_a_group_follow_each_other_within_32_bits(
    seed: int, group: int, view: int
) -> None:
    one, next_one = view_seed(seed, group, view), view_seed(seed, group, view + 1)
    assert 0 <= one < 2**32
    assert (one + 1) % 2**32 == next_one


def test_keys_have_nine_and_three_digits() -> None:
    assert view_key(12, 3) == "000000012_003"
    assert view_key(10**9 - 1, 999) == "999999999_999"
    assert parse_key("000000012_003") == (12, 3)


@given(st.integers(0, 10**9 - 1), st.integers(0, 999))
@settings(max_examples=100)
def test_key_round_trip(group_index: int, view_index: int) -> None:
    assert parse_key(view_key(group_index, view_index)) == (group_index, view_index)


@given(st.from_regex(r"\d{9}_\d{3}", fullmatch=True))
@settings(max_examples=100)
def test_only_what_view_key_writes_is_a_key(key: str) -> None:
    try:
        parsed = parse_key(key)
    except ContractError:
        assert not key.isascii()
    else:
        assert view_key(*parsed) == key


@pytest.mark.parametrize(("group", "view"), [(10**9, 0), (0, 1000), (-1, 0), (0, -1)])
def test_a_group_or_view_without_a_key_is_refused(group: int, view: int) -> None:
    with refused(ContractError, f"group {group}, view {view}", "make several sets"):
        view_key(group, view)


@pytest.mark.parametrize(
    "key", ["", "12_3", "000000012_003.png", "000000012-003", "00000001２_003"]
)
def test_another_name_is_no_key(key: str) -> None:
    with refused(ContractError, repr(key), "such as 000000012_003"):
        parse_key(key)
