"""The trainer's reader on a simulated bucket: start-up on 100,000 shards, and images a second.

    python -m benchmarks.bucket_reading [--shards 100000] [--tars 100] [--latency-ms 30]

The store answers each call after a time, and breaks some of them as a network does; what it holds
is made when it is asked for: a seal and an index of so many shards of 100 groups, and for every
group the bytes of one of 20 real ones (10 JPEGs of 256 px). All that reads it is the trainer's own
code. A rank's part of a step is 43 groups of 6 views; one loader process reads it, one group after
the other and then as the trainer does; then 1 % of its reads take 2 s longer, with and without a
second read of them. Then a set of 16 shards, through a line of 10 MB/s as well, and from a cache of
its tars. Then plain tars, 200 of those images in each: how long their index takes, and images a
second of them (`wds:`) and of a mixture with the set (`mix:`). At last the counts of
`merged_reads`. Writes results/bucket_reading.json.
"""

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from benchmarks import machine, merged_reads
from benchmarks.loader_speed import make_set
from manifests.canonical import sha256_hex
from manifests.foundation.plugins import Entry
from manifests.index import INDEX_SCHEMA, index_of
from manifests.layout import RECIPE, SEAL, SHARDS_PER_FILE, Layout
from manifests.recipe import Recipe
from manifests.seal import Seal, ShardSummary
from manifests.shard_set import ShardSet
from manifests.storage import BACKENDS, Store
from manifests.storage.calls import Repeater
from manifests.storage.reading import MAX_READ_BYTES
from manifests.tables import write_table
from trainer.data import second_reads, tar_reads
from trainer.data.augment import AugmentConfig, CropSet
from trainer.data.batches import Batches
from trainer.data.opening import open_source
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Cache, Demand, GroupStream

RESULTS = Path(__file__).parent / "results" / "bucket_reading.json"
GROUPS_PER_SHARD, GROUPS_OF_A_RANK, VIEWS = 100, 43, 6
STEPS = 16
CACHED_SHARDS, LINE_BYTES_PER_S = 16, 10e6


class SimulatedStore(Store):
    """Scheme `simulated`: what `contents` holds, and tars of equal shards, after a while."""

    can_create = False
    can_delete = False
    lists_temporaries = False
    latency_s = 0.0
    fault_rate = 0.0
    slow_rate, slow_s = 0.0, 0.0
    """Share of the reads of a tar that take so much longer."""
    contents: Mapping[str, bytes] = {}
    shard = b""
    """The groups of every tar, from its first byte."""
    plain_tar = b""
    num_plain_tars = 0
    """Of `simulated://tars`, which has no seal and no index."""
    num_calls = 0
    bytes_per_s = float("inf")
    """Of the line that all calls of the process share."""
    _line = threading.Lock()

    def __init__(self, url: str) -> None:
        self._url = url
        self._repeat = Repeater(url)

    @property
    def url(self) -> str:
        return self._url

    def list(self, folder: str = "") -> dict[str, int]:
        paths = [f"{number:06d}.tar" for number in range(self.num_plain_tars)]
        return dict.fromkeys(paths, len(self.plain_tar))

    def _tar(self) -> bytes:
        return self.plain_tar if self._url.endswith("/tars") else self.shard

    def _answer(self, path: str, get: Any) -> bytes:
        def ask() -> bytes:
            SimulatedStore.num_calls += 1
            time.sleep(self.latency_s * random.lognormvariate(0, 0.5))
            if random.random() < self.fault_rate:
                raise ConnectionError("simulated")
            data = bytes(get())
            if self.bytes_per_s < float("inf"):
                with self._line:
                    time.sleep(len(data) / self.bytes_per_s)
            return data

        return self._repeat(ask, self.at(path))

    def read(self, path: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        return self._answer(path, lambda: self.contents[path])

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if random.random() < self.slow_rate:
            time.sleep(self.slow_s)
        return self._answer(path, lambda: self._tar()[offset : offset + length])

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        yield BytesIO(self._answer(path, lambda: self.shard))


def fill(real: ShardSet, num_shards: int) -> None:
    """Contents of the simulated bucket: a set of so many shards like the real one."""
    identity = replace(
        real.recipe.identity,
        num_subjects=num_shards * GROUPS_PER_SHARD,
        subjects_per_shard=GROUPS_PER_SHARD,
    )
    recipe = Recipe(identity=identity, settings={}, environment={}, subject_files={})
    groups = index_of(real.manifest(0))
    # A shard has five times the groups of the real one.
    repeats = GROUPS_PER_SHARD // len(groups)
    lengths = np.tile(groups["length"].to_numpy(), repeats)
    size = int(groups["length"].to_numpy().sum())
    tar = real.store.read_range(real.layout.tar(0), 0, size)
    SimulatedStore.shard = tar * repeats
    layout = Layout(num_shards)
    tar_sha256, tar_bytes = sha256_hex(SimulatedStore.shard), len(SimulatedStore.shard)
    summaries = [
        ShardSummary(
            shard=shard,
            tar_sha256=tar_sha256,
            tar_bytes=tar_bytes,
            manifest_sha256="",
            num_views=1000,
            num_ok=1000,
        )
        for shard in range(num_shards)
    ]
    seal = Seal(recipe_sha256=recipe.sha256, shards=summaries, missing=[], files={})
    contents = {RECIPE: recipe.to_bytes()}
    rng = np.random.default_rng(0)
    for first in range(0, num_shards, SHARDS_PER_FILE):
        count = min(SHARDS_PER_FILE, num_shards - first)
        rows = count * GROUPS_PER_SHARD
        columns = {
            "shard": np.repeat(np.arange(first, first + count), GROUPS_PER_SHARD),
            "group_id": rng.integers(0, 2**63 - 1, rows),
            "num_ok": np.full(rows, 10),
            "offset": np.tile(np.cumsum(lengths) - lengths, count),
            "length": np.tile(lengths, count),
            "check": np.tile(groups["check"].to_numpy(), repeats * count),
            "kind": ["caption"] * rows,
            "label": [""] * rows,
        }
        table = pa.table(columns, schema=INDEX_SCHEMA)
        path = layout.index(seal.root_sha256, first // SHARDS_PER_FILE)
        contents[path] = write_table(table, metadata={})
    files = {path: sha256_hex(data) for path, data in contents.items()}
    contents[SEAL] = replace(seal, files=files).to_bytes()
    SimulatedStore.contents = contents


def start_up(num_shards: int) -> dict[str, float]:
    """Seconds, calls and memory until the first step could be read."""
    before, calls = machine.resident_bytes("VmRSS"), SimulatedStore.num_calls
    start, cpu = time.perf_counter(), time.process_time()
    stream = ShardSetSource("simulated://set").stream(
        Demand(seed=0, num_groups=1376, views_per_group=VIEWS)
    )
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    assert stream.num_groups == num_shards * GROUPS_PER_SHARD
    return {
        "s": seconds,
        "cpu_s": cpu_s,
        "calls": SimulatedStore.num_calls - calls,
        "memory_mb": (machine.resident_bytes("VmRSS") - before) / 1e6,
        "index_mb": sum(len(data) for path, data in SimulatedStore.contents.items() if "/" in path)
        / 1e6,
    }


def images_per_s(at_once: int, cache: Cache | None = None) -> float:
    """Of one loader process, over some steps."""
    tar_reads.READS_AT_ONCE = at_once
    demand = Demand(seed=0, num_groups=GROUPS_OF_A_RANK, views_per_group=VIEWS, cache=cache)
    return rate_of(ShardSetSource("simulated://set").stream(demand))


def rate_of(stream: GroupStream) -> float:
    """Images a second of one loader process, in steps of as many images whatever the source."""
    crops = CropSet(count=1, input_px=224, augment=AugmentConfig())
    batches, seconds = Batches(stream, [crops], seed=0, rank=0, world=1), []
    for step in range(STEPS):
        start = time.perf_counter()
        batch = batches[step]
        assert not isinstance(batch, Exception), batch
        seconds.append(time.perf_counter() - start)
    return STEPS * GROUPS_OF_A_RANK * VIEWS / sum(seconds)


def plain_tars(folder: Path, num_tars: int, most: int) -> dict[str, Any]:
    """Seconds until plain tars have an index, and images a second of them and of a mixture."""
    SimulatedStore.num_plain_tars = num_tars
    result: dict[str, Any] = {"tars": num_tars}
    demand = Demand(seed=0, num_groups=GROUPS_OF_A_RANK * VIEWS, views_per_group=1)
    for name in ("index", "index_again"):
        start, calls = time.perf_counter(), SimulatedStore.num_calls
        source = open_source("wds:simulated://tars")
        stream = source.stream(demand)
        seconds = round(time.perf_counter() - start, 2)
        result[name] = {"s": seconds, "calls": SimulatedStore.num_calls - calls}
    result["images"] = stream.num_groups
    rates = {}
    for at_once in (1, most):
        tar_reads.READS_AT_ONCE = at_once
        rates[at_once] = round(rate_of(stream), 1)
    file = folder / "mixture.toml"
    urls = ("simulated://set", "wds:simulated://tars")
    file.write_text("".join(f'[[sources]]\nurl = "{url}"\n' for url in urls))
    mixed = open_source(f"mix:{file}").stream(replace(demand, splits_groups=True))
    return result | {"images_per_s": rates, "mix_images_per_s": round(rate_of(mixed), 1)}


def with_a_cache(folder: Path, at_once: int) -> dict[str, float]:
    """Images a second of the set that is there: from the bucket, through a line, and kept."""
    result = {"bucket": images_per_s(at_once)}
    SimulatedStore.bytes_per_s = LINE_BYTES_PER_S
    result["bucket_10_mb_per_s"] = images_per_s(at_once)
    SimulatedStore.bytes_per_s = float("inf")
    cache = Cache(folder=folder, max_bytes=1 << 40)
    source = ShardSetSource("simulated://set")
    source.stream(Demand(seed=0, num_groups=1, views_per_group=1, cache=cache))
    start = time.perf_counter()
    assert source._tars.cache is not None
    source._tars.cache.fetch()
    kept_mb = sum(path.stat().st_size for path in folder.rglob("*.tar")) / 1e6
    result["fetched_mb_per_s"] = kept_mb / (time.perf_counter() - start)
    SimulatedStore.bytes_per_s = LINE_BYTES_PER_S
    calls = SimulatedStore.num_calls
    result["kept"] = images_per_s(at_once, cache)
    SimulatedStore.bytes_per_s = float("inf")
    result["calls_when_kept"] = SimulatedStore.num_calls - calls  # of the start: seal and index
    return {name: round(value, 1) for name, value in result.items()} | {
        "ratio": round(result["kept"] / result["bucket"], 2),
        "ratio_10_mb_per_s": round(result["kept"] / result["bucket_10_mb_per_s"], 2),
    }


@click.command(help=__doc__)
@click.option("--shards", default=100_000, show_default=True)
@click.option("--tars", default=100, show_default=True, help="Plain tars.")
@click.option("--latency-ms", default=30.0, show_default=True)
@click.option("--faults", default=0.01, show_default=True, help="Share of calls that break.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(shards: int, tars: int, latency_ms: float, faults: float, out: Path) -> None:
    BACKENDS["simulated"] = Entry(f"{__name__}:SimulatedStore", "")  # type: ignore[index]
    kept = tempfile.TemporaryDirectory()
    real = make_set(Path(kept.name) / "set")
    fill(real, shards)
    cache = tempfile.TemporaryDirectory()
    os.environ["XDG_CACHE_HOME"] = cache.name
    SimulatedStore.latency_s = latency_ms / 1000
    SimulatedStore.fault_rate = faults
    result: dict[str, Any] = {"machine": machine.describe(), "latency_ms": latency_ms}
    result |= {"faults": faults, "shards": shards, "groups": shards * GROUPS_PER_SHARD}
    result["start"] = {name: round(value, 2) for name, value in start_up(shards).items()}
    click.echo(json.dumps(result["start"]))
    again = start_up(shards)
    result["start_again"] = {name: round(again[name], 2) for name in ("s", "cpu_s", "calls")}
    click.echo(json.dumps(result["start_again"]))
    reads, most = {}, tar_reads.READS_AT_ONCE
    for at_once in (1, most):
        reads[at_once] = round(images_per_s(at_once), 1)
        click.echo(f"{at_once} at once: {reads[at_once]} images/s")
    result["images_per_s"] = reads
    result["ratio"] = round(reads[most] / reads[1], 2)
    SimulatedStore.slow_rate, SimulatedStore.slow_s = 0.01, 2.0
    fewest, tails = second_reads.FEWEST, {}
    for name, known in (("once", 10**9), ("twice", fewest)):  # nothing is slow before so many reads
        second_reads.FEWEST = known
        tails[name] = round(images_per_s(most), 1)
        click.echo(f"1 % of reads take 2 s longer, slow ones asked {name}: {tails[name]} images/s")
    result["images_per_s_with_slow_reads"] = tails
    SimulatedStore.slow_rate = 0.0
    fill(real, CACHED_SHARDS)
    result["cache"] = with_a_cache(Path(kept.name) / "cache", most)
    click.echo(json.dumps(result["cache"]))
    with real.store.open(real.layout.tar(0)) as file:
        SimulatedStore.plain_tar = file.read()
    result["plain_tars"] = plain_tars(Path(kept.name), tars, most)
    click.echo(json.dumps(result["plain_tars"]))
    SimulatedStore.latency_s = 0.0
    result["images_per_s_without_waiting"] = round(images_per_s(1), 1)
    line = {"latency_s": latency_ms / 1000, "bytes_per_s": 100e6}
    result["merged_reads"] = merged_reads.counts(real, **line)
    cache.cleanup()
    kept.cleanup()
    out.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
