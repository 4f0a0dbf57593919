import pytest

from manifests.layout import Layout, num_digits, shard_number


def test_names_of_a_small_set() -> None:
    layout = Layout(3)
    assert layout.tar(2) == "data/000002.tar"
    assert layout.manifest(2) == "manifests/000002.parquet"
    assert layout.stats(2) == "stats/000002.json"
    assert layout.failed(2) == "failed/000002.json"
    assert layout.prompts(2) == ("prompts/000000.parquet", 2)
    assert layout.prompt_files() == ["prompts/000000.parquet"]


def test_a_thousand_shards_share_a_prompt_file() -> None:
    layout = Layout(2001)
    assert layout.prompts(999) == ("prompts/000000.parquet", 999)
    assert layout.prompts(1000) == ("prompts/000001.parquet", 0)
    assert layout.prompt_files() == [f"prompts/00000{file}.parquet" for file in range(3)]


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
        ("data/1000000.tar", 1_000_000),
        ("data/00012.tar", None),
        ("data/.tmp-000012.tar-0f", None),
        ("data/sizes.json", None),
        ("data/00001２.tar", None),
        ("old/data/000012.tar", None),
    ],
)
def test_only_a_numbered_file_has_a_shard_number(path: str, number: int | None) -> None:
    assert shard_number(path) == number
