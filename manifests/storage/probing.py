"""Tries out whether a storage can hold a set that is being made, with files of its own."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from manifests.storage import Store, open_store
from manifests.storage.errors import StoreError

SMALL_BYTES, LARGE_BYTES = 1 << 10, 16 << 20
NAME, LARGE = "probe", "large"
MAX_SKEW_S = 60.0
"""Between the clocks of the storage and of this machine. S3 refuses requests from 900 s on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One property of a storage, and whether it has it."""

    name: str
    is_right: bool
    says: str
    """What was measured, or what is wrong and what to do."""


def probe_store(url: str) -> Iterator[Check]:
    """Check after check, until one fails on which the next ones depend.

    The files lie beside the URL, under a name that no set has, so that a set can still be begun
    there. They are removed where the storage lets us.

    Raises:
        StoreError: The storage cannot be opened.
    """
    open_store(url)  # what is wrong with the address is said of the one that was given
    name = f".doctor-{secrets.token_hex(4)}"
    store = open_store(f"{url.rstrip('/')}{name}")
    try:
        yield from _checks(store)
    except StoreError as exc:
        yield Check(name="rights", is_right=False, says=str(exc).replace(name, ""))
    finally:
        yield _clean_up(store)


def _checks(store: Store) -> Iterator[Check]:
    store.require_creatable()
    first, second = secrets.token_bytes(SMALL_BYTES), secrets.token_bytes(SMALL_BYTES)
    start = time.monotonic()
    store.create(NAME, first)
    took_ms = 1000 * (time.monotonic() - start)
    yield Check(name="create", is_right=True, says=f"a file of 1 kB in {took_ms:.0f} ms")
    yield _compare_clocks(store.modified(NAME))
    is_new = store.create(NAME, second)
    content = store.read(NAME)
    if is_new or content == second:
        yield Check(
            name="conditional create",
            is_right=False,
            says="an existing file was overwritten: this storage ignores conditions, so two "
            "writers would destroy each other's shards; make the set elsewhere and publish it here",
        )
        return
    yield Check(name="conditional create", is_right=True, says="an existing file stays as it is")
    is_right = content == first and store.read_range(NAME, 10, 20) == first[10:30]
    yield Check(
        name="read back",
        is_right=is_right,
        says="equal bytes, in whole and in part"
        if is_right
        else "gives other bytes than were sent",
    )
    is_listed = store.list() == {NAME: SMALL_BYTES}
    yield Check(
        name="list",
        is_right=is_listed,
        says="shows the file" if is_listed else "does not show a file that was just created",
    )
    large = secrets.token_bytes(LARGE_BYTES)
    start = time.monotonic()
    store.create(LARGE, large)
    middle = time.monotonic()
    is_right = store.read(LARGE) == large
    end = time.monotonic()
    up, down = (LARGE_BYTES / 1e6 / max(s, 1e-9) for s in (middle - start, end - middle))
    yield Check(
        name="throughput", is_right=is_right, says=f"{up:,.0f} MB/s up, {down:,.0f} MB/s down"
    )


def _compare_clocks(written_at: float | None) -> Check:
    """Of a file that was written just now."""
    if written_at is None:
        return Check(name="clock", is_right=True, says="the storage does not say what time it is")
    behind_s = written_at - time.time()
    if abs(behind_s) <= MAX_SKEW_S:
        says = f"differs by less than {MAX_SKEW_S:.0f} s from this machine's"
        return Check(name="clock", is_right=True, says=says)
    says = (
        f"the storage is {abs(behind_s):,.0f} s {'ahead of' if behind_s > 0 else 'behind'} this "
        "machine; set the clock of this machine by NTP, because a bucket refuses requests of "
        "another time"
    )
    return Check(name="clock", is_right=False, says=says)


def _clean_up(store: Store) -> Check:
    try:
        for path in (NAME, LARGE):
            store.delete(path)
        store.prune([""])
    except StoreError:
        says = f"files are left at {store.url}, because nothing is deleted there; remove them"
        return Check(name="clean up", is_right=True, says=says)
    return Check(name="clean up", is_right=True, says="nothing is left")
