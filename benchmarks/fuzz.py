"""Damages captions, recipes and every file of a set at random, and reads them as a user would.

    python -m benchmarks.fuzz [--cases 10000] [--seed 0] [--out results/fuzz.json]

Files are flipped bit by bit, cut, doubled, reordered, and filled with terminal escapes, markup and
HTML; JSON documents get other values, and the hash that goes with them. Each case must end within
five seconds as if nothing was, or in one printable line that names the file; never in another
error. A changed set must be refused by `synth verify`, and the trainer must refuse it or read what
was there before. Memory of the whole process must stay below 1 GB.
"""

import io
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks import machine
from manifests.canonical import hash_json
from manifests.foundation.errors import SynthError
from manifests.foundation.messages import printable
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from pipeline.config import load_config
from pipeline.overview import overview
from prompts.reading import read_prompts
from tests.sets import make_set
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
LIMIT_S = 5.0
MAX_BYTES = 1 << 30
TEXTS = (
    b"\x1b]0;owned\x07\x1b[2J",
    b"<script>alert(1)</script>",
    b"[red]bold[/bold] {0} %s ${HOME}",
    b"\x00\xff\xfe\xed\xa0\x80",
    "\u202e\u2066\ufeff\u0085\u2028".encode(),
    b'"""\n\r\r\n,;\t',
    b"1e999 NaN -0 " + b"9" * 400,
    b"[" * 3000,
    b"../../etc/passwd",
    b"a" * 100_000,
)
"""What is put into files, at any place."""

Mutation = Callable[[bytes, random.Random], bytes]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _double(data: bytes, rng: random.Random) -> bytes:
    start, stop = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:stop] + data[start:stop] + data[stop:]


def _reorder(data: bytes, rng: random.Random) -> bytes:
    first, second, third = sorted(rng.sample(range(len(data) + 1), 3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(TEXTS) + data[place:]


def _replace(data: bytes, rng: random.Random) -> bytes:
    start, stop = sorted(rng.sample(range(len(data) + 1), 2))
    return data[:start] + rng.choice(TEXTS) + data[stop:]


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63, 2**64, 10**400, 0.5, 1e300, "", "x", "\x1b[2J", "2.9", "3.0"),
    *([], {}, [[]], {"": {}}, [None] * 100, "a" * 100_000, ["../../x"], {"shard": -1}),
)
"""What a value of a JSON document is replaced with."""
HASHED = {"recipe.json": ("identity", "identity_sha256"), "dataset.json": (None, "seal_sha256")}


def _retype(name: str, data: bytes, rng: random.Random) -> bytes:
    """The document with another value at one place, and the hash of what it says now: as somebody
    writes it who knows the format."""
    document = json.loads(data)
    node, place = document, rng.choice([*document])
    while isinstance(node[place], dict | list) and node[place] and rng.random() < 0.8:
        node = node[place]
        place = rng.choice([*node]) if isinstance(node, dict) else rng.randrange(len(node))
    node[place] = rng.choice(VALUES)
    part, key = HASHED[name]
    with suppress(Exception):  # what cannot be hashed keeps its hash
        hashed = document[part] if part else {k: v for k, v in document.items() if k != key}
        document[key] = hash_json(hashed)
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


MUTATIONS: Mapping[str, Mutation] = {
    "flip": _flip,
    "cut": _cut,
    "double": _double,
    "reorder": _reorder,
    "insert": _insert,
    "replace": _replace,
}


class HangError(BaseException):
    """A case takes longer than LIMIT_S; no handler of the readers may catch it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise HangError in this thread when the time is over."""

    def end(number: int, frame: object) -> None:
        raise HangError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CAPTIONS = [f"a {thing} on {place}" for thing in ("fox", "door", "café") for place in "abcdefgh"]
RECIPE = """
[prompts]
file = "captions.txt"
[renderer]
name = "image-programs"
mix = [1, 2]
[views]
per_subject = 4
seed = 7
[image]
format = "png"
"""


def caption_files() -> dict[str, bytes]:
    """The same captions in every format."""
    rows = [{"caption": text, "label": text.split()[1]} for text in CAPTIONS]
    table = pa.Table.from_pylist(rows)
    csv, parquet = io.BytesIO(), io.BytesIO()
    pa.csv.write_csv(table, csv)
    pq.write_table(table, parquet)
    return {
        "captions.txt": "\n".join(CAPTIONS).encode(),
        "captions.csv": csv.getvalue(),
        "captions.tsv": csv.getvalue().replace(b",", b"\t"),
        "captions.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "captions.parquet": parquet.getvalue(),
        "recipe.toml": RECIPE.encode(),
    }


@dataclass
class Findings:
    """What the cases came to."""

    counts: Counter[str] = field(default_factory=Counter)
    """By kind of file and end: `refused`, or `read` if nothing is wrong with it."""
    faults: list[str] = field(default_factory=list)
    """What must not happen, a line each."""


class Fuzz:
    """Cases by number: each is the same on every machine."""

    def __init__(self, work: Path, seed: int) -> None:
        self._seed = seed
        self._folder = work / "set"
        make_set(self._folder)
        self._set_files = {
            str(path.relative_to(self._folder)): path.read_bytes()
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        self._inputs = work / "inputs"
        self._inputs.mkdir()
        self._input_files = caption_files()
        self._content = self._trained_on()
        self.findings = Findings()

    def run(self, number: int) -> None:
        """Damage one file, read it, and note what came of it."""
        rng = random.Random(f"{self._seed} {number}")
        files = self._input_files if number % 2 else self._set_files
        name = rng.choice([*files])
        kind = "retype" if name in HASHED and rng.random() < 0.5 else rng.choice([*MUTATIONS])
        if kind == "retype":
            data = _retype(name, files[name], rng)
        else:
            data = MUTATIONS[kind](files[name], rng)
        if data == files[name]:
            return
        path = (self._inputs if number % 2 else self._folder) / name
        path.write_bytes(data)
        try:
            with within(LIMIT_S):
                if number % 2:
                    end = self._read_input(path)
                else:
                    end = self._read_set(name, may_be_right=kind == "retype")
        except (Exception, HangError) as exc:
            end = "fault"
            self.findings.faults.append(f"case {number}, {kind} of {name}: {exc!r:.300}")
        finally:
            if number % 2 == 0:
                path.write_bytes(files[name])
        kind_of_file = name.split("/")[0] if "/" in name else name
        self.findings.counts[f"{kind_of_file}: {end}"] += 1

    def _read_input(self, path: Path) -> str:
        try:
            if path.suffix == ".toml":
                load_config(recipe=path, overrides=[], flags={})
            else:
                for _ in read_prompts(str(path)):
                    pass
        except SynthError as exc:
            _require_line(str(exc), path.name)
            return "refused"
        return "read"

    def _read_set(self, name: str, *, may_be_right: bool) -> str:
        try:
            shards = ShardSet.open(str(self._folder))
            overview(shards)
            problems = [*validate_shard_set(shards)]
        except SynthError as exc:
            _require_line(str(exc), "" if may_be_right else Path(name).name)
        else:
            if not problems and may_be_right:
                return "read"  # such as a key that a newer minor version may have
            if not problems:
                raise AssertionError("synth verify finds nothing")
            for problem in problems:
                _require_line(f"{problem.where}: {problem.message}", "")
            if not may_be_right and not any(name in problem.where for problem in problems):
                raise AssertionError(f"not named: {problems[0]!r:.200}")
        try:
            if self._trained_on() != self._content:
                raise AssertionError("the trainer reads other views than were sealed")
        except SynthError as exc:
            _require_line(str(exc), "")
        return "refused"

    def _trained_on(self) -> list[tuple[Any, ...]]:
        """All groups as a training reads them."""
        demand = Demand(seed=0, num_groups=2, views_per_group=1, reads=frozenset({"captions"}))
        stream = ShardSetSource(str(self._folder)).stream(demand)
        return [
            (group.id, group.caption, [view.pixels.tobytes() for view in group.views])
            for step in range(2)
            for group in stream.groups(step, rank=0, world=1)
        ]


def _require_line(message: str, name: str) -> None:
    """A message as the command line shows it."""
    message = printable(message)
    if not message.isprintable():
        raise AssertionError(f"not one printable line: {message!r:.300}")
    if name not in message:
        raise AssertionError(f"does not name {name}: {message!r:.300}")


@click.command(help=__doc__)
@click.option("--cases", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(cases: int, seed: int, out: Path) -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        fuzz = Fuzz(Path(work), seed)
        with click.progressbar(range(cases), label="fuzz") as numbers:
            for number in numbers:
                fuzz.run(number)
    result = {
        "cases": cases,
        "seed": seed,
        "faults": len(fuzz.findings.faults),
        "ends": dict(sorted(fuzz.findings.counts.items())),
        "peak_memory_mb": round(machine.resident_bytes("VmHWM") / 1e6),
        "seconds": round(time.monotonic() - start),
        "machine": machine.describe(),
    }
    for fault in fuzz.findings.faults[:20]:
        click.echo(fault)
    click.echo(json.dumps(result, indent=2))
    out.write_text(json.dumps(result, indent=2) + "\n")
    if fuzz.findings.faults or machine.resident_bytes("VmHWM") > MAX_BYTES:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
