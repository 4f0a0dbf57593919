from pathlib import Path

from manifests.errors import (
    CorruptError,
    ForeignSetError,
    IdentityError,
)
from manifests.plan import hash_subjects
from manifests.rows import SubjectRow
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.storage.local import LocalStore
from manifests.validation import validate_shard_set
from tests.sets import (
    CAPTIONS,
    COLUMNS,
    Listed,
    begin,
    commit,
    identity_of,
    make_set,
    picture_of,
    refused,
    subject_rows,
    tree,
)


def test_a_set_is_begun_with_its_recipe_and_its_plan(tmp_path: Path) -> None:
    shards = begin(tmp_path / "new" / "set")
    assert list(tree(tmp_path / "new" / "set")) == ["recipe.json", "subjects/000000.parquet"]
    assert ([*shards.committed()], shards.given_up(), shards.seal()) == ([], {}, None)
    assert list(shards.all_subjects()) == subject_rows(*CAPTIONS)


def test_each_shard_has_its_own_subjects_and_requests(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    assert [[row.text for row in shards.subjects(shard)] for shard in range(2)] == [
        ["a red fox", "a blue door"],
        ["two pears"],
    ]
    assert [request.key for request in shards.requests(1)] == ["000000002_000", "000000002_001"]


def test_a_plan_of_more_than_a_thousand_shards(tmp_path: Path) -> None:
    captions = [f"caption {number}" for number in range(1001)]
    shards = begin(tmp_path, captions=captions, subjects_per_shard=1)
    assert sorted(shards.store.list("subjects")) == [f"subjects/00000{n}.parquet" for n in range(2)]
    assert [row.text for row in shards.subjects(1000)] == ["caption 1000"]
    assert [row.text for row in shards.all_subjects()] == captions


def test_joining_a_set_changes_nothing_and_keeps_its_environment(tmp_path: Path) -> None:
    begin(tmp_path, environment={"python": "3.11"})
    before = tree(tmp_path)
    assert begin(tmp_path, environment={"python": "3.12"}).recipe.environment == {"python": "3.11"}
    assert tree(tmp_path) == before


def test_joining_writes_a_plan_that_a_killed_writer_left_out(tmp_path: Path) -> None:
    begin(tmp_path)
    before = tree(tmp_path)
    (tmp_path / "subjects/000000.parquet").unlink()
    begin(tmp_path)
    assert tree(tmp_path) == before


def test_another_identity_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    begin(tmp_path)
    before = tree(tmp_path)
    keys = "these keys differ: dataset_seed, renderer_identity.brush."
    with refused(IdentityError, str(tmp_path), keys, "Give the old values, or another --out"):
        begin(tmp_path, dataset_seed=8, renderer_identity={"model": "easel", "brush": 5})
    with refused(IdentityError, "num_subjects, subjects_sha256"):
        begin(tmp_path, captions=CAPTIONS[:2])
    assert tree(tmp_path) == before


def test_two_writers_that_begin_at_once_join_in_one_set(tmp_path: Path) -> None:
    class Slow(LocalStore):
        """Another writer begins the set right after this one has seen that there is none."""

        was_asked = False

        def exists(self, path: str) -> bool:
            was_there = super().exists(path)
            if not self.was_asked:
                self.was_asked = True
                begin(tmp_path)
            return was_there

    shards = begin(Slow(str(tmp_path)))
    assert list(validate_shard_set(shards)) == []


def test_temporary_files_of_a_killed_writer_are_not_foreign(tmp_path: Path) -> None:
    (tmp_path / ".tmp-recipe.json-0f").write_bytes(b"{")
    assert not begin(tmp_path).committed()


def test_a_url_without_a_set_is_refused(tmp_path: Path) -> None:
    with refused(ForeignSetError, str(tmp_path), "no recipe.json", "`synth generate --out`"):
        ShardSet.open(str(tmp_path))


def test_only_committed_shards_are_seen(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    shards.store.create("data/000000.tar", b"not committed")
    shards.store.create("manifests/.tmp-000000.parquet-0f", b"half")
    shards.store.create("manifests/notes.txt", b"")
    assert not shards.committed()
    commit(shards, 1)
    assert [*shards.committed()] == [1]


def test_a_shard_that_was_given_up_and_made_later_is_not_given_up(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    for shard in range(2):
        shards.add_note(shard, b"{}")
    commit(shards, 0)
    assert shards.given_up() == {1: "failed/000001-000.json"}


def test_a_shard_that_is_given_up_again_has_another_note(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    shards.add_note(1, b"first")
    shards.add_note(1, b"second")
    assert shards.given_up() == {1: "failed/000001-001.json"}
    assert [content for path, content in tree(tmp_path).items() if "failed" in path] == [
        b"first",
        b"second",
    ]


def test_images_are_read_and_checked(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    for shard in range(2):
        for row, request in zip(shards.manifest(shard).rows, shards.requests(shard), strict=True):
            if row.is_ok:
                assert shards.image(shard, row) == picture_of(request)


def test_a_view_that_failed_has_no_image(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    with refused(CorruptError, "000000001_001", "it failed (blank)"):
        shards.image(0, shards.manifest(0).rows[3])


def test_subjects_keep_all_their_columns(tmp_path: Path) -> None:
    row = SubjectRow(
        group_index=0,
        group_id=8945900202904087436,
        kind="caption",
        text="a red fox",
        label="fox",
        licence="CC0-1.0",
        source="list.csv",
        num_merged=3,
        values={"avoid": "blur"},
    )
    store, plan = open_store(str(tmp_path)), Listed([row])
    shards = ShardSet.begin(store, identity_of([row]), plan, environment={})
    assert shards.subjects(0) == [row]
    assert shards.recipe.identity.subjects_sha256 == hash_subjects([row], COLUMNS)
