"""Invariant 3, a shard exists when its manifest does, holds whenever writers are killed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manifests.derived import DERIVED
from manifests.garbage import find_garbage, remove_garbage
from manifests.layout import EXAMPLES, SEAL
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from tests.contract.processes import ROUNDS, copy_original, make
from tests.sets import tree

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(folder: Path, *args: str) -> Any:
    """Run `processes.py` on a folder, which also gets the temporary files of killed writers."""
    (folder / "scratch").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.processes", *args, str(folder)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder / "scratch")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def visible(folder: Path) -> dict[str, bytes]:
    """Content of the files in a folder, without temporary files, which readers skip."""
    return {path: data for path, data in tree(folder).items() if ".tmp-" not in path}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of a set that was made in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    make(str(folder))
    return tree(folder)


def test_a_writer_killed_at_any_step_leaves_what_a_second_run_completes(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    num_steps = run(tmp_path, "kill", "make")
    assert num_steps > 80  # 15 files: open, sync, link, unlink, sync of the folder
    for step in range(1, num_steps + 1):
        folder = tmp_path / str(step)
        left = visible(folder)
        # Each file is whole, and the seal came after all the files that it names.
        assert left.items() <= undisturbed.items(), f"killed before step {step}"
        late = {path for path in undisturbed if path in DERIVED or path.startswith(EXAMPLES)}
        assert SEAL not in left or undisturbed.keys() - left.keys() <= late
        if "recipe.json" in left:
            shards = ShardSet.open(str(folder))
            for shard in shards.committed():
                assert shards.layout.tar(shard) in left
                assert shards.image(shard, shards.manifest(shard).rows[0])

        again = make(str(folder))
        assert tree(folder) == undisturbed, f"killed before step {step}"
        assert list(validate_shard_set(again)) == []


def test_an_incomplete_seal_killed_at_any_step_exists_whole_or_not_at_all(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    num_steps = run(tmp_path, "kill", "seal-incomplete")
    assert num_steps > 15
    # Before the first step: shard 1 is a tar without a manifest.
    assert (tmp_path / "1/data/000001.tar").exists()
    was_sealed = set()
    for step in range(1, num_steps + 1):
        folder = tmp_path / str(step)
        shards = ShardSet.open(str(folder))
        seal = shards.seal()
        was_sealed.add(seal is not None)
        if seal is None:
            assert list(validate_shard_set(make(str(folder)))) == []
            # The index that the killed writer left is one of fewer shards.
            stale = {path for path in visible(folder) if path.startswith("index/")} - {*undisturbed}
            assert stale == {*find_garbage(shards).files}
            remove_garbage(shards, find_garbage(shards))
            assert visible(folder) == undisturbed, f"killed before step {step}"
        else:
            assert seal.missing == [2]
            seal_set(shards)  # writes card and sizes if the writer was killed before it did
            assert list(validate_shard_set(shards)) == []
    assert was_sealed == {False, True}


def test_a_copy_killed_at_any_step_is_completed_by_a_second_one(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    num_steps = run(tmp_path, "kill", "publish")
    assert num_steps > 80  # 15 files: open, sync, link, unlink, sync of the folder
    for step in range(1, num_steps + 1):
        folder = tmp_path / str(step)
        left = visible(folder)
        assert left.items() <= undisturbed.items(), f"killed before step {step}"
        assert SEAL not in left or left == undisturbed
        copy_original(str(folder))
        assert visible(folder) == undisturbed, f"killed before step {step}"
        assert all(path.startswith(f".tmp-{SEAL}") for path in tree(folder).keys() - undisturbed)


def test_three_writers_of_one_set_at_once_make_one_set(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """They race from the recipe to the seal, and all of them succeed."""
    run(tmp_path, "race")
    for attempt in range(ROUNDS):
        assert visible(tmp_path / str(attempt)) == undisturbed
        assert list(validate_shard_set(ShardSet.open(str(tmp_path / str(attempt))))) == []
