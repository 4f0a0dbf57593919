"""Tars of a bucket that breaks requests are kept on a disk: the right bytes, and the same steps."""

import random
from pathlib import Path
from typing import Any

import pytest

from manifests.storage import calls, open_store
from tests.fault_proxy import faulty_bucket
from tests.picture_sets import make_picture_set
from trainer.data.opening import open_source
from trainer.data.sources import Cache, Demand

pytestmark = pytest.mark.slow

URL = "s3://sets/set"
FAULTS = ("slow-down", "error", "reset", "cut", "flip")


def groups_of(cache: Cache | None) -> tuple[list[Any], Any]:
    """What three steps hold, and the source that they are from."""
    source: Any = open_source(URL)
    stream = source.stream(Demand(seed=1, num_groups=4, views_per_group=3, cache=cache))
    groups = [group for step in range(3) for group in stream.groups(step, rank=0, world=1)]
    return [(group.id, [view.pixels.tobytes() for view in group.views]) for group in groups], source


def test_faults_of_the_storage_change_neither_steps_nor_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PATIENCE_S", 120.0)
    with faulty_bucket(tmp_path) as faults:
        make_picture_set(URL)
        store = open_store(URL)
        sealed = {path: store.read(path) for path in store.list("data") if path.endswith(".tar")}
        expected, _ = groups_of(None)
        rng, flipped = random.Random(2), set()

        def is_hit(method: str, path: str) -> bool:
            faults.fault = rng.choice(FAULTS)
            if method != "GET" or ".tar" not in path or rng.random() > 0.3:
                return False
            if faults.fault == "flip":  # twice is more than a reader stands
                is_first = path not in flipped
                flipped.add(path)
                return is_first
            return True

        faults.plan("error", is_hit, 1000)
        cache = Cache(folder=tmp_path / "cache", max_bytes=1 << 30)
        groups, source = groups_of(cache)
        assert groups == expected
        source._tars.cache.fetch()
        assert faults.times < 1000
        assert flipped
        kept = sorted((tmp_path / "cache").rglob("[0-9]*.tar"))
        assert [path.read_bytes() for path in kept] == [*sealed.values()]
        faults.plan("", lambda *_: False, 0)
        groups, _ = groups_of(cache)
        assert groups == expected
        assert not [request for request in faults.requests if ".tar" in request]
