"""Sets on Azure Blob Storage: the laws of stores, and a set that is killed while it is made."""

import random
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from manifests.storage import Store, open_store
from manifests.storage.objects import ObjectStore
from manifests.storage.testing import StoreLaws
from tests.running import pixel_files, start, synth, write_captions
from tests.servers.azurite import azurite, is_installable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.servers,
    pytest.mark.skipif(not is_installable(), reason="needs npm"),
    # adlfs hands over bytes where aiohttp would rather have a file.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]
NUMBERS = count()


@pytest.fixture(scope="module", autouse=True)
def _container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with azurite(tmp_path_factory.mktemp("azurite")):
        fsspec.filesystem("az").mkdir("sets")
        yield


class TestLaws(StoreLaws):
    def empty_store(self) -> Store:
        store = open_store(f"az://sets/{next(NUMBERS)}/set")
        assert isinstance(store, ObjectStore)
        return store


def test_a_set_is_made_through_kills_verified_and_copied(tmp_path: Path) -> None:
    url = f"az://sets/{next(NUMBERS)}/set"
    recipe = [
        *("--prompts", write_captions(tmp_path), "--renderer", "benchmarks.noise:Noise"),
        *("--set", "renderer.view_s=0.03", "--views-per-subject", 4),
        *("--subjects-per-shard", 1, "--executor", "inline"),
    ]
    synth("generate", "--out", tmp_path / "folder", *recipe)
    store, rng = open_store(url), random.Random(1)
    for num_made in (1, 3):
        driver = start("generate", "--out", url, *recipe)
        while len(store.list("manifests")) < num_made and driver.poll() is None:
            time.sleep(rng.uniform(0, 0.02))
        assert driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
    assert "24 views in 6 shards" in synth("generate", "--out", url, *recipe)
    assert "all right: 24 views in 6 shards" in synth("verify", url)
    synth("publish", url, tmp_path / "copy")
    assert pixel_files(tmp_path / "copy") == pixel_files(tmp_path / "folder")
    synth("publish", tmp_path / "folder", f"{url}-back")
    assert "all right: 24 views in 6 shards" in synth("verify", f"{url}-back")
