"""Whatever a storage does to a call, it is made again or ends in time, and nothing is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifests.foundation.errors import ConfigError
from manifests.storage import Store, calls, open_store
from manifests.storage.errors import StoreError
from manifests.storage.testing import read_open
from tests.fault_proxy import Faults, faulty_bucket
from tests.object_store import s3_clients_of

CONTENT = bytes(range(256)) * 4000
LARGE_BYTES = 33 << 20  # more than is sent in one request
SILENCE_S = 1.5

CALLS: dict[str, tuple[Callable[[Store, Path], object], object, Callable[[str, str], bool]]] = {
    "read": (
        lambda store, _: store.read("data/a"),
        CONTENT,
        lambda method, path: method == "GET" and path.endswith("/data/a"),
    ),
    "read a range": (
        lambda store, _: store.read_range("data/a", 5, 1000),
        CONTENT[5:1005],
        lambda method, path: method == "GET" and path.endswith("/data/a"),
    ),
    "read in pieces": (
        lambda store, _: read_open(store, "data/a"),
        CONTENT,
        lambda method, path: method == "GET" and path.endswith("/data/a"),
    ),
    "list": (
        lambda store, _: store.list("data"),
        {"data/a": len(CONTENT)},
        lambda method, path: method == "GET" and "list-type=2" in path,
    ),
    "exists": (
        lambda store, _: store.exists("data/a"),
        True,
        lambda method, _: method == "HEAD",
    ),
    "create": (
        lambda store, _: store.create("data/b", CONTENT) or store.read("data/b") == CONTENT,
        True,
        lambda method, _: method == "PUT",
    ),
    "create from a file": (
        lambda store, file: store.create("data/c", file) or store.read("data/c") == CONTENT,
        True,
        lambda method, _: method == "PUT",
    ),
    "create in parts": (
        lambda store, file: (
            store.create("data/d", file.with_name("large"))
            or store.list("data")["data/d"] == LARGE_BYTES
        ),
        True,
        lambda method, path: method in ("PUT", "POST") and "/data/d" in path,
    ),
}
OF_ANSWERS = ("stall", "cut")
"""Faults that need an answer with a body."""
WITH_BODY = ("read", "read a range", "read in pieces", "list")


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faulty_bucket(tmp_path_factory.mktemp("s3")) as faults:
        yield faults


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "large").write_bytes(bytes(LARGE_BYTES))
    (tmp_path / "small").write_bytes(CONTENT)
    return tmp_path / "small"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(calls, "SLOWEST_BYTES_PER_S", 1 << 30)
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(calls, "PATIENCE_S", 60.0)


@pytest.fixture
def store(faults: Faults, impatient: None, request: pytest.FixtureRequest) -> Store:
    faults.times = 0
    store = open_store(f"s3://sets/{abs(hash(request.node.name))}")
    store.create("data/a", CONTENT)
    return store


def combinations(kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (name, fault)
        for name in CALLS
        for fault in kinds
        if fault not in OF_ANSWERS or name in WITH_BODY
    ]


@pytest.mark.parametrize(
    ("name", "fault"),
    combinations(("slow-down", "error", "reset", "silence", "stall", "cut", "lost")),
)
def test_a_fault_that_passes_changes_nothing(
    name: str, fault: str, store: Store, faults: Faults, file: Path
) -> None:
    call, expected, is_hit = CALLS[name]
    faults.plan(fault, is_hit, 2)
    assert call(store, file) == expected
    assert faults.times == 0, "the fault did not happen"


@pytest.mark.parametrize(
    ("name", "fault"), combinations(("slow-down", "error", "reset", "silence", "stall", "cut"))
)
def test_a_fault_that_stays_ends_in_time_and_names_the_object(
    name: str,
    fault: str,
    store: Store,
    faults: Faults,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "PATIENCE_S", 1.0)
    call, _, is_hit = CALLS[name]
    faults.plan(fault, is_hit, 1_000_000)
    with pytest.raises(StoreError) as caught:
        call(store, file)
    assert faults.times <= 1_000_000 - 2, "it was not tried again"
    message = str(caught.value)
    assert message.startswith(f"{store.url}/data")
    assert message.isprintable()
    assert "run the same command again" in message
    faults.times = 0
    assert store.list("data") == {"data/a": len(CONTENT)}


def test_a_waiting_call_says_so(
    store: Store, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.plan("slow-down", lambda method, _: method == "GET", 2)
    store.read("data/a")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(f"{store.url}/data/a: ")
    assert "trying again for" in lines[0]


def test_what_will_not_pass_is_asked_once(store: Store, faults: Faults) -> None:
    faults.plan("", lambda *_: False, 0)
    with pytest.raises(FileNotFoundError):
        store.read("data/none")
    assert len(faults.requests) == 1


def test_an_address_where_nobody_answers_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(calls, "FIRST_PATIENCE_S", 0.5)
    with s3_clients_of("http://127.0.0.1:9"):
        store = open_store("s3://sets/set")
        with pytest.raises(StoreError, match=r"^s3://sets/set/a: .*run the same command again"):
            store.read("a")


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_time_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTH_STORAGE_SILENCE_S", text)
    with pytest.raises(ConfigError, match=f"SYNTH_STORAGE_SILENCE_S is '{text}', expected seconds"):
        calls._seconds("SYNTH_STORAGE_SILENCE_S", 60)
