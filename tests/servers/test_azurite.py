"""Sets on Azure Blob Storage: the laws of stores, and a set that is killed while it is made."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from manifests.storage import Store, open_store
from manifests.storage.objects import PART_BYTES, ObjectStore
from manifests.storage.testing import StoreLaws
from tests.servers.azurite import azurite, is_installable
from tests.servers.through_kills import make_verify_and_copy

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
    large_bytes = PART_BYTES + 1

    def empty_store(self) -> Store:
        store = open_store(f"az://sets/{next(NUMBERS)}/set")
        assert isinstance(store, ObjectStore)
        return store


def test_a_set_is_made_through_kills_verified_and_copied(tmp_path: Path) -> None:
    make_verify_and_copy(f"az://sets/{next(NUMBERS)}/set", tmp_path, disturb=lambda: None)
