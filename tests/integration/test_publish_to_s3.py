"""A set is copied to a bucket and back, over a real connection to an S3 server of the test."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

from manifests.errors import CorruptError, ForeignSetError
from manifests.layout import SEAL
from manifests.publish import publish
from manifests.publish_plan import plan_publication
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.storage.errors import StoreError
from manifests.storage.objects import PART_BYTES
from manifests.validation import validate_shard_set
from synth import main
from tests.conftest import ROOT
from tests.object_store import s3_clients_of, s3_server
from tests.running import environment, synth
from tests.sets import make_set, refused, tree

pytestmark = pytest.mark.slow

NUM_FILES = 15
NUMBERS = count()


@pytest.fixture(scope="module", autouse=True)
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An S3 server with one empty bucket, `sets`."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address, s3_clients_of(address):
        fsspec.filesystem("s3").mkdir("sets")
        yield


@pytest.fixture
def url() -> str:
    """A prefix in the bucket with no objects under it, another one for each test."""
    return f"s3://sets/{next(NUMBERS)}/set"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_set(tmp_path / "source")
    return tmp_path / "source"


def copy(source: str | Path, target: str | Path) -> int:
    """Publish, and return the number of files that were written."""
    publication = plan_publication(ShardSet.open(str(source)), open_store(str(target)))
    return sum(copied.is_new for copied in publish(publication))


def objects(url: str) -> dict[str, bytes]:
    """Every object under a URL by relative path."""
    root = url.removeprefix("s3://")
    paths = fsspec.filesystem("s3").find(url)
    store, names = open_store(url), [path.removeprefix(f"{root}/") for path in paths]
    return {name: store.read(name) for name in names}


def overwrite(url: str, content: bytes) -> None:
    fsspec.filesystem("s3").pipe_file(url, content)


@pytest.mark.parametrize("content", [b"first", b""], ids=["bytes", "nothing"])
@pytest.mark.parametrize("is_file", [True, False], ids=["file", "memory"])
def test_an_object_is_created_once_and_never_overwritten(
    url: str, tmp_path: Path, content: bytes, is_file: bool
) -> None:
    store = open_store(url)

    def put(data: bytes) -> bool:
        (tmp_path / "content").write_bytes(data)
        return store.create("data/a.tar", tmp_path / "content" if is_file else data)

    assert put(content)
    for another in (b"second", b""):
        assert not put(another)
        assert store.read("data/a.tar") == content
    assert store.list("data") == {"data/a.tar": len(content)}


@pytest.mark.parametrize("asks_first", [True, False])
def test_a_file_that_is_sent_in_parts_does_not_overwrite(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks_first: bool
) -> None:
    """Nor if another writer creates it after the check whether it exists and before the upload."""
    store = open_store(url)
    (tmp_path / "large").write_bytes(bytes(2 * PART_BYTES + 1))
    assert store.create("a", tmp_path / "large")
    assert store.list() == {"a": 2 * PART_BYTES + 1}
    assert store.create("b", b"first")
    if not asks_first:
        # The check sees nothing, so only the condition of the upload itself can refuse.
        monkeypatch.setattr(store._fs, "exists", lambda path: False)
    assert not store.create("b", tmp_path / "large")
    assert store.read("b") == b"first"


def test_a_bucket_that_does_not_exist_is_refused() -> None:
    with refused(StoreError, "s3://nowhere/set/a", "there is no such bucket; make it"):
        open_store("s3://nowhere/set").create("a", b"")


def test_a_set_goes_to_a_bucket_is_read_there_and_comes_back(
    source: Path, tmp_path: Path, url: str
) -> None:
    assert copy(source, url) == NUM_FILES
    assert objects(url) == tree(source)
    there = ShardSet.open(url)
    assert list(validate_shard_set(there)) == []
    row = there.manifest(1).rows[0]
    assert there.image(1, row) == ShardSet.open(str(source)).image(1, row)
    assert copy(source, url) == 0
    assert copy(url, tmp_path / "back") == NUM_FILES
    assert tree(tmp_path / "back") == tree(source)
    assert copy(url, f"{url}-2") == NUM_FILES
    assert objects(f"{url}-2") == tree(source)


def test_a_publication_that_was_killed_is_continued(source: Path, url: str) -> None:
    """The same command is killed again and again, each time before its third new file."""
    killed = f"""
import os, signal, sys
from manifests.storage.objects import ObjectStore
create, left = ObjectStore.create, [2]
def last_create(*args):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return create(*args)
ObjectStore.create = last_create
import synth
synth.main(["publish", {str(source)!r}, {url!r}, "--workers", "1"])
"""
    for num_files in range(2, NUM_FILES, 2):
        done = subprocess.run(
            [sys.executable, "-c", killed], cwd=ROOT, env=environment(), check=False
        )
        assert done.returncode == -signal.SIGKILL
        left = objects(url)
        assert (len(left), SEAL in left) == (num_files, False)
        assert left.items() <= tree(source).items()
    assert f"{url}: {NUM_FILES - num_files} files copied" in synth("publish", source, url)
    assert objects(url) == tree(source)
    again = synth("publish", source, url)
    assert f"{url}: complete already, nothing written: {NUM_FILES} files" in again


@pytest.mark.parametrize("content", [b"short", None], ids=["other length", "other bytes"])
def test_an_object_that_differs_is_left_as_it_is(
    source: Path, url: str, content: bytes | None
) -> None:
    copy(source, url)
    path = "data/000001.tar"
    overwrite(f"{url}/{path}", content or bytes((source / path).stat().st_size))
    before = objects(url)
    with refused(CorruptError, f"{url}/{path}", "nothing is overwritten: remove it"):
        copy(source, url)
    assert objects(url) == before


def test_another_set_in_the_bucket_is_refused(source: Path, tmp_path: Path, url: str) -> None:
    make_set(tmp_path / "other", dataset_seed=8)
    copy(tmp_path / "other", url)
    with refused(ForeignSetError, f"{url}/recipe.json: belongs to another set"):
        copy(source, url)
    assert objects(url) == tree(tmp_path / "other")


def test_a_changed_object_is_not_copied_from_the_bucket(
    source: Path, tmp_path: Path, url: str
) -> None:
    copy(source, url)
    overwrite(f"{url}/data/000000.tar", bytes((source / "data/000000.tar").stat().st_size))
    with refused(CorruptError, f"{url}/data/000000.tar", "the seal says"):
        copy(url, tmp_path / "back")
    left = tree(tmp_path / "back")
    assert {"data/000000.tar", "manifests/000000.parquet", SEAL} & left.keys() == set()


def test_a_set_is_made_in_a_bucket_as_in_a_folder(tmp_path: Path, url: str) -> None:
    """Making a set needs no delete and no rename, so a bucket will do."""
    (tmp_path / "captions.txt").write_text("a red one\n")
    small = ["--prompts", f"{tmp_path}/captions.txt", "--views-per-subject", "2"]
    small += ["--batch-size", "2", "--steps", "1", "--executor", "inline"]

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output.strip()

    # In the bucket, in a folder, and in the bucket again, where nothing is left to do.
    urls = (url, f"{tmp_path}/set", url)
    roots = [run("generate", *small, "--out", out).rpartition("root ")[2] for out in urls]
    assert roots[0] == roots[1] == roots[2]
    assert "all right" in run("verify", url, "--sealed")
