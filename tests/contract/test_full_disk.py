"""A full or read-only disk is an error of one line, after which the same command continues."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from manifests.storage.errors import StoreError
from tests.contract.processes import make
from tests.sets import refused, tree

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FULL = "No space left on device; free some space and run the same command again"


def test_a_disk_that_is_full_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = make(str(tmp_path / "undisturbed"))
    files = tree(undisturbed.store.url)
    fsync = os.fsync
    for step in count(1):
        folder = tmp_path / str(step)
        calls = count(1)

        def full(descriptor: int, calls: Iterator[int] = calls, step: int = step) -> None:
            if next(calls) == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            if step > 2 * len(files):  # each is synced with its folder
                make(str(folder))
                assert next(calls) == 2 * len(files) + 1
                break
            with refused(StoreError, str(folder), FULL):
                make(str(folder))
        assert tree(folder).items() <= files.items(), f"full at step {step}"
        make(str(folder))
        assert tree(folder) == files


def test_real_disks_that_are_too_small_or_read_only(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.contract.processes", "fill", str(tmp_path)]
    if subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", tmp_path],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("needs the right to mount in a namespace of its own")
    done = subprocess.run(
        ["unshare", "--mount", *script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *too_small, read_only = json.loads(done.stdout)
    root = make(str(tmp_path / "undisturbed")).seal()
    assert root is not None
    # Messages name the file that did not fit, so the disks were full at different files.
    assert len({outcome["message"] for outcome in too_small}) > 4
    for outcome in too_small:
        assert outcome["message"].startswith(f"{tmp_path}/set/")
        assert FULL in outcome["message"]
        assert "\n" not in outcome["message"]
        assert [path for path in outcome["left"] if ".tmp-" in path] == []
        assert outcome["root"] == root.root_sha256
    assert read_only["message"] == (
        f"{tmp_path}/set/recipe.json: Read-only file system; the file system is read-only; "
        "choose another folder"
    )
