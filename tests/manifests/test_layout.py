import pytest

from manifests.layout import Layout, is_read_by_glob, num_digits


def test_names_of_a_small_set() -> None:
    layout = Layout(3)
    assert layout.tar(2) == "data/000002.tar"
    assert layout.manifest(2) == "manifests/000002.parquet"
    assert layout.stats(2) == "stats/000002.json"
    assert layout.failed(2, 3) == "failed/000002-003.json"
    assert layout.subjects(2) == ("subjects/000000.parquet", 2)
    assert layout.subject_files() == ["subjects/000000.parquet"]


def test_a_thousand_shards_share_a_file_of_the_plan() -> None:
    layout = Layout(2001)
    assert layout.subjects(999) == ("subjects/000000.parquet", 999)
    assert layout.subjects(1000) == ("subjects/000001.parquet", 0)
    assert layout.subject_files() == [f"subjects/00000{file}.parquet" for file in range(3)]


@pytest.mark.parametrize(
    ("num_shards", "digits"), [(0, 6), (1, 6), (10**6, 6), (10**6 + 1, 7), (10**7 + 1, 8)]
)
def test_all_shards_of_a_set_have_the_same_number_of_digits(num_shards: int, digits: int) -> None:
    assert num_digits(num_shards) == digits
    assert Layout(num_shards).tar(1) == f"data/{1:0{digits}d}.tar"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("manifests/000012.parquet", 12),
        ("data/000012.tar", 12),
        ("failed/000012-003.json", 12),
        ("data/0000012.tar", None),
        ("data/000020.tar", None),
        ("data/000012.parquet", None),
        ("failed/000012.json", None),
        ("data/000012-003.tar", None),
        ("data/00012.tar", None),
        ("data/.tmp-000012.tar-0f", None),
        ("data/sizes.json", None),
        ("data/00001２.tar", None),
        ("old/data/000012.tar", None),
    ],
)
def test_only_names_that_the_set_can_have_have_a_number(path: str, number: int | None) -> None:
    assert Layout(20).number(path) == number


def test_large_sets_have_wider_names() -> None:
    assert Layout(1_000_001).number("data/1000000.tar") == 1_000_000
    assert Layout(1_000_001).number("data/000012.tar") is None


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("data/holiday.tar", True),
        ("data/000000.tar", True),
        ("manifests/x.parquet", True),
        ("subjects/x.parquet", True),
        ("stats/000000.json", True),
        ("data/sizes.json", False),
        ("notes.txt", False),
        ("data/old/x.tar", False),
        ("other/x.tar", False),
    ],
)
def test_files_that_a_reader_with_a_glob_would_read(path: str, is_read: bool) -> None:
    assert is_read_by_glob(path) == is_read
