"""A set is removed whole, and at no moment trusted while it is not."""

from pathlib import Path

import pytest

from manifests.deletion import delete_set, plan_deletion
from manifests.derived import DERIVED
from manifests.errors import ForeignSetError
from manifests.layout import RECIPE, SEAL
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from tests.sets import begin, commit, make_numbered_set, make_set, refused, tree


def remove(url: Path) -> list[str]:
    return list(delete_set(plan_deletion(ShardSet.open(str(url)))))


NUM_FILES = 15
"""Of the set of `make_set`."""


class Failing(LocalStore):
    """Refuses to remove anything after so many files."""

    left = 0

    def delete(self, path: str) -> None:
        if self.left == 0:
            raise StoreError(f"{path}: killed")
        self.left -= 1
        super().delete(path)


def test_nothing_outlives_what_vouches_for_it(tmp_path: Path) -> None:
    url = tmp_path / "set"
    make_set(url)
    (url / "data/.tmp-000001.tar-5f").write_bytes(b"half")
    paths = remove(url)
    derived = {
        path for path in paths if path in DERIVED or path.startswith(("examples/", "index/"))
    }
    end = 1 + len(derived)
    assert paths[0] == SEAL
    assert {*paths[1:end]} == derived
    assert paths[end : end + 2] == ["manifests/000000.parquet", "manifests/000001.parquet"]
    assert paths[-1] == RECIPE
    assert len(paths) == NUM_FILES
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", range(NUM_FILES))
def test_a_killed_removal_goes_on(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "set"
    make_set(url)
    monkeypatch.setattr("manifests.deletion.NUM_WORKERS", 1)
    store = Failing(str(url))
    store.left = count
    with pytest.raises(StoreError, match="killed"):
        list(delete_set(plan_deletion(ShardSet(store))))
    files = tree(url)
    assert len(files) == NUM_FILES - count
    assert RECIPE in files
    assert (SEAL in files) == (count == 0)
    left = ShardSet.open(str(url))
    for shard in left.committed():
        assert left.layout.tar(shard) in files
    remove(url)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_is_still_being_made_can_be_removed(tmp_path: Path) -> None:
    url = tmp_path / "set"
    shards = begin(url)
    commit(shards, 0)
    shards.add_note(1, b"{}")
    assert "failed/000001-000.json" in remove(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["notes.txt", "data/extra.tar", "data/0000001.tar", "papers/a.pdf", "index/a.parquet"]
)
def test_nothing_is_removed_where_a_foreign_file_lies(tmp_path: Path, path: str) -> None:
    make_set(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"mine")
    before = tree(tmp_path)
    where = "papers" if path.startswith("papers") else path
    with refused(ForeignSetError, f"{tmp_path}/{where}", "nothing is removed"):
        remove(tmp_path)
    assert tree(tmp_path) == before


def test_a_folder_in_place_of_a_file_is_foreign(tmp_path: Path) -> None:
    make_set(tmp_path)
    (tmp_path / "data/000000.tar").unlink()
    (tmp_path / "data/000000.tar").mkdir()
    with refused(ForeignSetError, "data/000000.tar"):
        remove(tmp_path)


def test_what_is_no_set_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with refused(ForeignSetError, "no shard set here"):
        remove(tmp_path)
    assert tree(tmp_path) == {"notes.txt": b"mine"}


def test_what_a_sealed_set_has_for_timm_is_removed_with_it(tmp_path: Path) -> None:
    make_numbered_set(tmp_path / "set")
    assert "_info.json" in remove(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
