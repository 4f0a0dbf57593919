import io
import re
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from manifests.errors import ContractError, CorruptError, ForeignSetError
from manifests.layout import CARD, RECIPE, SEAL
from manifests.publish import publish
from manifests.publish_plan import plan_publication
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import Store, open_store
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from manifests.validation import validate_shard_set
from tests.running import synth
from tests.sets import begin, commit, make_numbered_set, make_set, refused, tree

PATHS = [
    "README.md",
    "croissant.json",
    "data/000000.tar",
    "data/000001.tar",
    "data/sizes.json",
    "dataset.json",
    "examples/000000000_000.png",
    "examples/000000000_001.png",
    "index/R-000000.parquet",
    "manifests/000000.parquet",
    "manifests/000001.parquet",
    "recipe.json",
    "stats/000000.json",
    "stats/000001.json",
    "subjects/000000.parquet",
]
"""Every file of the set that is copied here; R are digits of its root hash."""


def copy(source: str | Path, target: str | Path | Store, num_workers: int = 8) -> list[str]:
    """Publish a set and return the paths that were written, in order."""
    store = open_store(str(target)) if isinstance(target, str | Path) else target
    publication = plan_publication(ShardSet.open(str(source)), store)
    results = list(publish(publication, num_workers=num_workers))
    assert sorted(plain(result.file.path) for result in results) == PATHS
    return [plain(result.file.path) for result in results if result.is_new]


def plain(path: str) -> str:
    return re.sub("index/[0-9a-f]{16}-", "index/R-", path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_set(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def remote(source: Path) -> Iterator[str]:
    """URL of a copy of the source that has no path on this machine."""
    files = fsspec.filesystem("memory")
    for path, content in tree(source).items():
        files.pipe_file(f"/published/{path}", content)
    yield "memory://published"
    files.rm("/published", recursive=True)


class KilledError(Exception):
    """Stands for a signal that kills the writer."""


class Dying(LocalStore):
    """Creates `num_files` files and kills its writer at the next one."""

    def __init__(self, url: str, num_files: int) -> None:
        super().__init__(url)
        self.left = num_files

    def create(self, path: str, content: bytes | Path) -> bool:
        if not self.left:
            raise KilledError
        self.left -= 1
        return super().create(path, content)


def test_a_copy_is_equal_to_the_byte(source: Path, target: Path) -> None:
    assert sorted(copy(source, target)) == PATHS
    assert tree(target) == tree(source)
    assert list(validate_shard_set(ShardSet.open(str(target)))) == []


def test_what_a_set_has_for_timm_is_copied(tmp_path: Path) -> None:
    make_numbered_set(tmp_path / "numbered")
    target = open_store(str(tmp_path / "copy"))
    paths = [
        result.file.path
        for result in publish(plan_publication(ShardSet.open(str(tmp_path / "numbered")), target))
    ]
    assert "_info.json" in paths
    assert tree(tmp_path / "copy") == tree(tmp_path / "numbered")


def test_no_file_comes_before_those_that_it_vouches_for(source: Path, target: Path) -> None:
    created = []

    class Noting(LocalStore):
        def create(self, path: str, content: bytes | Path) -> bool:
            created.append(path)
            return super().create(path, content)

    copy(source, Noting(str(target)), num_workers=1)
    assert created[:6] == [
        "recipe.json",
        "subjects/000000.parquet",
        "data/000000.tar",
        "manifests/000000.parquet",
        "data/000001.tar",
        "manifests/000001.parquet",
    ]
    assert created[-1] == "dataset.json"


def test_the_copied_card_pins_the_tars_of_the_copy(source: Path, target: Path) -> None:
    copy(source, target)
    header = yaml.safe_load((target / CARD).read_text().split("---\n")[1])
    assert header["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.tar"}]}
    ]
    (files,) = header["configs"][0]["data_files"]
    tars = sorted(str(path.relative_to(target)) for path in target.glob(files["path"]))
    assert tars == ["data/000000.tar", "data/000001.tar"]


def test_a_finished_copy_is_compared_and_not_written_to(source: Path, target: Path) -> None:
    copy(source, target)
    (target / "data/.tmp-000000.tar-0f").write_bytes(b"of another program")
    before = {path: (target / path).stat().st_mtime_ns for path in tree(target)}
    assert copy(source, Dying(str(target), 0)) == []
    assert {path: (target / path).stat().st_mtime_ns for path in tree(target)} == before


@pytest.mark.parametrize("num_files", range(len(PATHS)))
def test_a_copy_killed_before_any_of_its_files_is_continued(
    source: Path, target: Path, num_files: int
) -> None:
    with pytest.raises(KilledError):
        copy(source, Dying(str(target), num_files), num_workers=1)
    left = tree(target)
    assert (len(left), SEAL in left) == (num_files, False)
    assert left.items() <= tree(source).items()
    assert len(copy(source, target)) == len(PATHS) - num_files
    assert tree(target) == tree(source)


def test_temporary_files_of_a_killed_copy_are_removed_before_the_seal(
    source: Path, target: Path
) -> None:
    (target / "data").mkdir(parents=True)
    (target / RECIPE).write_bytes((source / RECIPE).read_bytes())
    (target / "data/.tmp-000000.tar-0f").write_bytes(b"half")
    copy(source, target)
    assert tree(target) == tree(source)


def test_two_copies_at_once_make_one(source: Path, tmp_path: Path) -> None:
    for attempt in range(5):
        target = tmp_path / f"target{attempt}"
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy, [source] * 2, [target] * 2))
        assert tree(target) == tree(source)


def test_only_what_the_seal_names_is_copied(tmp_path: Path, target: Path) -> None:
    """Not a shard that was committed after an incomplete seal, and not a file of somebody else."""
    shards = begin(tmp_path / "source")
    commit(shards, 1)
    shards.store.create("failed/000000-000.json", b'{"shard": 0}\n')
    seal_set(shards, incomplete=True)
    sealed = tree(tmp_path / "source")
    commit(shards, 0)
    shards.store.create("notes.txt", b"")
    list(publish(plan_publication(shards, open_store(str(target)))))
    assert tree(target) == sealed
    assert "failed/000000-000.json" in sealed


def test_a_set_that_is_not_sealed_is_refused(tmp_path: Path, target: Path) -> None:
    commit(begin(tmp_path / "source"), 1)
    with refused(
        ContractError,
        f"{tmp_path}/source: is not sealed, 1 of 2 shards",
        "run the same `synth generate` again",
    ):
        copy(tmp_path / "source", target)
    assert not target.exists()


@pytest.mark.parametrize(
    "path", ["data/000001.tar", "manifests/000001.parquet", "stats/000001.json"]
)
def test_a_changed_file_of_the_source_is_named_and_not_copied(
    source: Path, target: Path, path: str
) -> None:
    content = bytearray((source / path).read_bytes())
    content[len(content) // 2] ^= 1
    (source / path).write_bytes(content)
    with refused(CorruptError, f"{source}/{path}", "the seal says", "restore it from a copy"):
        copy(source, target)
    left = tree(target)
    assert path not in left
    assert SEAL not in left
    assert left.items() <= tree(source).items()
    if path.endswith(".tar"):
        assert "manifests/000001.parquet" not in left


def test_a_changed_tar_is_not_copied_from_a_remote_source(target: Path, remote: str) -> None:
    files = fsspec.filesystem("memory")
    content = bytearray(files.cat_file("/published/data/000001.tar"))
    content[600] ^= 1
    files.pipe_file("/published/data/000001.tar", bytes(content))
    with refused(CorruptError, f"{remote}/data/000001.tar", "the seal says"):
        copy(remote, target)
    assert {"data/000001.tar", "manifests/000001.parquet", SEAL} & tree(target).keys() == set()


def test_a_source_that_lost_a_part_is_refused_before_anything_is_written(
    source: Path, target: Path
) -> None:
    tar = source / "data/000000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with refused(CorruptError, f"{tar}: ", "the seal says", "`synth verify`"):
        copy(source, target)
    tar.unlink()
    with refused(CorruptError, f"{tar}: the sealed set has it and it is gone"):
        copy(source, target)
    assert not target.exists()


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a//b", "", SEAL, "data/.tmp-a"])
def test_a_seal_that_names_a_path_outside_of_a_set_is_refused(
    source: Path, target: Path, path: str
) -> None:
    seal = ShardSet.open(str(source)).seal()
    assert seal is not None
    forged = replace(seal, files={**seal.files, path: "0" * 64})
    (source / SEAL).write_bytes(forged.to_bytes())
    with refused(CorruptError, f"{source}/dataset.json: names {path!r}"):
        copy(source, target)


def test_a_seal_of_another_recipe_is_refused(source: Path, target: Path, tmp_path: Path) -> None:
    make_set(tmp_path / "other", dataset_seed=8)
    shutil.copy(tmp_path / "other" / SEAL, source / SEAL)
    with refused(CorruptError, f"{source}/dataset.json: does not seal this recipe"):
        copy(source, target)


@pytest.mark.parametrize("path", ["data/000001.tar", "manifests/000000.parquet", "README.md"])
@pytest.mark.parametrize("content", [b"short", None], ids=["other length", "other bytes"])
def test_a_file_at_the_target_that_differs_is_left_as_it_is(
    source: Path, target: Path, path: str, content: bytes | None
) -> None:
    """Both in a finished copy and in one that was killed."""
    copy(source, target)
    changed = content or bytes((source / path).stat().st_size)
    (target / path).write_bytes(changed)
    for is_finished in (True, False):
        if not is_finished:
            (target / SEAL).unlink()
        before = tree(target)
        with refused(CorruptError, f"{target}/{path}", "nothing is overwritten: remove it"):
            copy(source, target)
        assert tree(target) == before
    (target / path).unlink()
    assert copy(source, target) == [path, SEAL]


@pytest.mark.parametrize("is_sealed", [True, False])
def test_another_set_at_the_target_is_refused(source: Path, target: Path, is_sealed: bool) -> None:
    shards = make_set(target, dataset_seed=8) if is_sealed else begin(target, dataset_seed=8)
    before = tree(target)
    with refused(ForeignSetError, f"{shards.store.url}/recipe.json: belongs to another set"):
        copy(source, target)
    assert tree(target) == before


def test_a_set_of_the_same_recipe_with_another_seal_is_refused(source: Path, target: Path) -> None:
    """The target has the same recipe to the byte, and was sealed with one shard less."""
    shutil.copytree(source, target)
    shard = ("data/000001.tar", "stats/000001.json", "manifests/000001.parquet")
    for path in (SEAL, "README.md", "data/sizes.json", *shard):
        (target / path).unlink()
    seal_set(ShardSet.open(str(target)), incomplete=True)
    with refused(ForeignSetError, f"{target}/dataset.json: belongs to another set"):
        copy(source, target)


def test_a_target_with_other_files_is_refused_and_left_alone(source: Path, target: Path) -> None:
    target.mkdir()
    (target / "thesis.tex").write_text("x")
    with refused(ForeignSetError, str(target), "holds thesis.tex but no shard set"):
        copy(source, target)
    assert list(tree(target)) == ["thesis.tex"]


@pytest.mark.parametrize(
    "path",
    [
        "data/000002.tar",
        "data/0000001.tar",
        "data/extra.tar",
        "manifests/000007.parquet",
        "manifests/extra.parquet",
        "subjects/000001.parquet",
        "stats/000002.json",
        "failed/000000-000.json",
    ],
)
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_file_that_readers_would_take_for_one_of_the_set_is_refused(
    source: Path, target: Path, path: str, is_sealed: bool
) -> None:
    copy(source, target)
    if not is_sealed:
        (target / SEAL).unlink()
    (target / path).parent.mkdir(exist_ok=True)
    (target / path).write_bytes(b"")
    with refused(ForeignSetError, f"{target}/{path}: is no file of the set", "remove it"):
        copy(source, target)


@pytest.mark.parametrize("path", ["notes.txt", "data/notes.txt", "data/backup/000002.tar"])
def test_a_file_that_no_reader_takes_may_lie_beside_a_copy(
    source: Path, target: Path, path: str
) -> None:
    copy(source, target)
    (target / path).parent.mkdir(exist_ok=True)
    (target / path).write_bytes(b"")
    assert copy(source, target) == []


def test_a_copy_into_itself_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    before = tree(source)
    for target in (source, source / "copy", f"file://{source}", tmp_path / "link"):
        with refused(ContractError, "lies in the set that is to be copied", str(source)):
            copy(source, target)
    with refused(ForeignSetError, str(tmp_path), "holds link but no shard set"):
        copy(source, tmp_path)
    assert tree(source) == before


def test_a_scheme_that_may_overwrite_is_refused(source: Path) -> None:
    with refused(StoreError, "memory://copy", "give a local folder or a URL of s3, gs, az or sftp"):
        copy(source, "memory://copy")


def test_a_remote_set_is_copied_through_a_temporary_folder_that_is_left_empty(
    source: Path, target: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    copy(remote, target)
    assert tree(target) == tree(source)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_full_temporary_folder_is_named(
    target: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with refused(StoreError, f"{tmp_path}/scratch/synth-scratch-", "File too large", "TMPDIR"):
            copy(remote, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()


def test_a_lost_answer_to_a_create_is_no_failure(source: Path, target: Path) -> None:
    class Deaf(LocalStore):
        """Stores the file, and answers that another writer was first."""

        def create(self, path: str, content: bytes | Path) -> bool:
            super().create(path, content)
            return False

    copy(source, Deaf(str(target)))
    assert tree(target) == tree(source)


def test_a_store_that_is_busy_is_asked_again(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(LocalStore):
        """Answers that another writer is creating the file, who then fails."""

        num_conflicts = 3

        def create(self, path: str, content: bytes | Path) -> bool:
            if path == RECIPE and self.num_conflicts:
                self.num_conflicts -= 1
                return False
            return super().create(path, content)

    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    copy(source, Busy(str(target)))
    assert tree(target) == tree(source)
    assert waited == [0.5, 1.0, 2.0]
    busy = Busy(f"{target}2")
    busy.num_conflicts = 99
    with refused(StoreError, f"{target}2/recipe.json", "the file exists, yet it cannot be read"):
        copy(source, busy)


def test_what_was_written_is_read_back(source: Path, target: Path) -> None:
    class Flipping(LocalStore):
        """Changes a bit on the way to the disk, which only a hash can show."""

        def create(self, path: str, content: bytes | Path) -> bool:
            data = bytearray(content.read_bytes() if isinstance(content, Path) else content)
            data[-1] ^= path == "data/000000.tar"
            return super().create(path, bytes(data))

    with refused(CorruptError, f"{target}/data/000000.tar", "the seal says", "remove it"):
        copy(source, Flipping(str(target)))
    assert {"manifests/000000.parquet", SEAL} & tree(target).keys() == set()


class Noisy(LocalStore):
    """Changes a bit of one file in each of its first `times` readings."""

    def __init__(self, url: str, path: str, times: int) -> None:
        super().__init__(url)
        self.path = path
        self.times = times

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        with super().open(path) as file:
            data = bytearray(file.read())
        if path == self.path and self.times:
            data[self.times] ^= 1  # another bit at each reading
            self.times -= 1
        yield io.BytesIO(data)

    def read(self, path: str, *, max_bytes: int = 1 << 30) -> bytes:
        with self.open(path) as file:
            return bytes(file.read())


@pytest.mark.parametrize("path", [RECIPE, "data/000000.tar", SEAL])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_bit_that_flips_once_when_a_copied_file_is_read_does_no_harm(
    source: Path, target: Path, path: str, is_new: bool
) -> None:
    if not is_new:
        copy(source, target)
    noisy = Noisy(str(target), path, times=1)
    assert sorted(copy(source, noisy)) == (PATHS if is_new else [])
    assert noisy.times == 0
    assert tree(target) == tree(source)


def test_a_bit_that_flips_once_when_the_source_is_read_does_no_harm(
    source: Path, target: Path
) -> None:
    shards = ShardSet(Noisy(str(source), "data/000000.tar", times=1))
    list(publish(plan_publication(shards, open_store(str(target)))))
    assert tree(target) == tree(source)


def test_bits_that_flip_at_every_reading_are_not_blamed_on_the_file(
    source: Path, target: Path
) -> None:
    noisy = Noisy(str(target), "data/000000.tar", times=9)
    with pytest.raises(StoreError) as caught:
        copy(source, noisy)
    assert "data/000000.tar: gives other bytes at every reading" in str(caught.value)
    assert "remove" not in str(caught.value)
    assert SEAL not in tree(target)


def test_the_command_reports_what_it_copied(source: Path, target: Path) -> None:
    num_bytes = sum(len(content) for content in tree(source).values())
    seal = ShardSet.open(str(source)).seal()
    assert seal is not None
    assert (
        f"{target}: 15 files copied ({num_bytes:,} bytes), 0 were there (0 bytes), "
        f"root {seal.root_sha256[:16]}\n"
    ) in synth("publish", source, target)
    assert tree(target) == tree(source)
    assert f"{target}: complete already, nothing written: 15 files ({num_bytes:,} bytes)" in synth(
        "publish", source, target
    )
    (target / SEAL).unlink()
    (target / "data/000000.tar").write_bytes(b"x")
    output = synth("publish", source, target, "--workers", 1, status=1)
    assert f"Error: {target}/data/000000.tar: 1 bytes, the file that is copied has" in output
    assert "Traceback" not in output
