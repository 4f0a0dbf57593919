"""Starts writers that are killed, race each other or run out of disk, each in its own process.

    python -m tests.contract.processes kill STORY FOLDER
    python -m tests.contract.processes race FOLDER
    unshare --mount python -m tests.contract.processes fill FOLDER

Nothing heavy is imported here, so that forking a writer takes milliseconds.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from manifests.publish import publish
from manifests.publish_plan import plan_publication
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.storage.errors import StoreError
from tests.sets import begin, commit, tree, write_tar_of

STATS = b'{"total_s": 1.5}\n'
ROUNDS = 8
"""How often the writers race."""


def make(folder: str) -> ShardSet:
    """A whole set of three shards, as `synth generate` makes it."""
    shards = begin(folder, subjects_per_shard=1)
    for shard in range(3):
        if shard not in shards.committed():
            commit(shards, shard)
        shards.store.create(shards.layout.stats(shard), STATS)
    seal_set(shards)
    return shards


def make_two_thirds(folder: str) -> None:
    """One shard, and a whole tar of another that no manifest commits."""
    shards = begin(folder, subjects_per_shard=1)
    commit(shards, 0)
    with tempfile.TemporaryDirectory() as scratch:
        tar = write_tar_of(shards, 1, Path(scratch) / "shard.tar")
        shards.store.create(shards.layout.tar(1), tar)


def seal_two_thirds(folder: str) -> None:
    seal_set(ShardSet.open(folder), incomplete=True)


def make_original(folder: str) -> None:
    """Make the set that is copied, beside the folder that it is copied to."""
    make(f"{Path(folder).parent}/original-{Path(folder).name}")


def copy_original(folder: str) -> None:
    original = f"{Path(folder).parent}/original-{Path(folder).name}"
    list(publish(plan_publication(ShardSet.open(original), open_store(folder)), num_workers=1))


STORIES: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
    "make": (lambda folder: None, make),
    "seal-incomplete": (make_two_thirds, seal_two_thirds),
    "publish": (make_original, copy_original),
}
"""Two functions for each story: what is done first, and what is then killed at every step."""


def kill_at_every_step(story: str, folder: Path) -> int:
    """Make `folder/N` and kill its writer just before its N-th step, for all N.

    Returns:
        The number of steps of a writer that is not killed.
    """
    prepare, act = STORIES[story]
    for step in count(1):
        target = str(folder / str(step))

        def write(target: str = target, step: int = step) -> None:
            prepare(target)
            _kill_before(step, target)
            act(target)

        if _outcome(_fork(write)) == 0:  # not killed: it had finished before this step
            return step - 1
    raise AssertionError


def _kill_before(step: int, folder: str) -> None:
    """Kill this process at its N-th step: a call that changes the folder, or an fsync."""
    num_steps = 0
    fsync = os.fsync

    def count_step() -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        is_change = event in ("os.link", "os.remove", "os.mkdir")
        is_change |= event == "open" and args[1] is not None and "x" in args[1]
        if is_change and str(args[0]).startswith(folder):
            count_step()

    def counted_fsync(descriptor: int) -> None:
        count_step()
        fsync(descriptor)

    # An audit hook sees every call of the process just before it is made. There is no event for
    # fsync, so that function is replaced.
    sys.addaudithook(hook)
    os.fsync = counted_fsync


def race(folder: Path) -> None:
    """Three writers make the same set at once, again and again."""
    for attempt in range(ROUNDS):
        target = str(folder / str(attempt))
        ready, go = os.pipe()

        def write(target: str = target, ready: int = ready, go: int = go) -> None:
            os.close(go)
            os.read(ready, 1)  # returns when the parent closes its end: all start together
            make(target)

        writers = [_fork(write) for _ in range(3)]
        os.close(ready)
        os.close(go)
        assert [_outcome(writer) for writer in writers] == [0, 0, 0]


def fill(folder: Path) -> list[dict[str, Any]]:
    """Make a set on disks that are too small and then enlarged, and on one that is read-only.

    Returns:
        For each disk: message of the error, files that were left, and root hash of the set that the
        second attempt completed.
    """
    outcomes = []
    for size in (8, 20, 36, 64, 84, 100, 116):
        _mount(folder, f"size={size}k")
        try:
            make(str(folder / "set"))
            message = ""
        except StoreError as exc:
            message = str(exc)
        left = sorted(tree(folder / "set"))
        _mount(folder, "remount,size=4m")
        seal = make(str(folder / "set")).seal()
        assert seal is not None
        outcomes.append({"message": message, "left": left, "root": seal.root_sha256})
        subprocess.run(["umount", folder], check=True)
    _mount(folder, "ro")
    try:
        make(str(folder / "set"))
    except StoreError as exc:
        outcomes.append({"message": str(exc), "left": [], "root": ""})
    return outcomes


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


def _fork(write: Callable[[], None]) -> int:
    """Run a function in a child process and return its process id at once."""
    if pid := os.fork():
        return pid
    # The child must never return from here, or it would go on as a second parent.
    try:
        write()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _outcome(pid: int) -> int:
    """Exit status of a child that ended by itself, minus the signal of one that was killed."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"a writer ended with {code}"
    return code


def main(mode: str, *args: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(folder)  # pyarrow imports some modules late: once here, and not in each forked writer
    if mode == "kill":
        result: Any = kill_at_every_step(args[0], Path(args[1]))
    elif mode == "race":
        result = race(Path(args[0]))
    else:
        result = fill(Path(args[0]))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
