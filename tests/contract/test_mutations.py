"""Any change to the files of a sealed set is detected, or no reader can see a difference."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.foundation.errors import SynthError
from manifests.shard_set import ShardSet
from manifests.validation import validate_shard_set
from tests.sets import make_set, tree

pytestmark = pytest.mark.slow

TRIES = 40
"""How often each mutation is tried, with other files chosen at random."""
GLOBS = (
    *("recipe.json", "dataset.json", "README.md", "croissant.json", "data/sizes.json"),
    "examples/000000000_00[01].png",  # the card names each of them
    *("data/*.tar", "manifests/*.parquet", "subjects/*.parquet", "stats/*.json", "failed/*.json"),
)
"""Files that readers look at: our readers by the names of the contract, others by their globs."""

Mutation = Callable[[Path, list[str], random.Random], None]


def _cut(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    os.truncate(path, rng.randrange(path.stat().st_size))


def _append(folder: Path, names: list[str], rng: random.Random) -> None:
    with (folder / rng.choice(names)).open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 2000)))


def _zero_a_range(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    data = bytearray(path.read_bytes())
    # From a byte that is not zero already, so that the file changes.
    start = next(at for at in iter(lambda: rng.randrange(len(data)), None) if data[at])
    end = start + rng.randrange(1, 600)
    data[start:end] = bytes(len(data[start:end]))
    path.write_bytes(data)


def _swap_blocks(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    data = path.read_bytes()
    middle = rng.randrange(1, len(data))
    path.write_bytes(data[middle:] + data[:middle])


def _swap_files(folder: Path, names: list[str], rng: random.Random) -> None:
    one, other = (folder / name for name in rng.sample(names, 2))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _overwrite(folder: Path, names: list[str], rng: random.Random) -> None:
    one, other = (folder / name for name in rng.sample(names, 2))
    one.write_bytes(other.read_bytes())


def _rename(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    path.rename(path.with_name(_another_name(path.name, rng)))


def _duplicate(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    target = folder / rng.choice(names)
    shutil.copy(path, target.with_name(_another_name(path.name, rng)))


def _add_a_file(folder: Path, names: list[str], rng: random.Random) -> None:
    target = folder / rng.choice(names)
    target.with_name(_another_name(target.name, rng)).write_bytes(rng.randbytes(50))


def _another_name(name: str, rng: random.Random) -> str:
    stem, _, suffix = name.partition(".")
    stems = [f"0{stem}", stem[1:] or "0", "000007", "0000001", f"{stem}~", f"{stem} (copy)", "x"]
    return f"{rng.choice(stems)}.{rng.choice([suffix, suffix, suffix.upper(), 'tar', 'bak'])}"


def _delete(folder: Path, names: list[str], rng: random.Random) -> None:
    (folder / rng.choice(names)).unlink()


def _delete_a_folder(folder: Path, names: list[str], rng: random.Random) -> None:
    shutil.rmtree(rng.choice([path for path in folder.iterdir() if path.is_dir()]))


def _folder_in_place(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    path.unlink()
    path.mkdir()


def _pipe_in_place(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    path.unlink()
    os.mkfifo(path)


def _link_in_place(folder: Path, names: list[str], rng: random.Random) -> None:
    path = folder / rng.choice(names)
    path.unlink()
    path.symlink_to(rng.choice([path.name, "/dev/zero", "/etc/hostname", "/nowhere"]))


# Every function above, by its name.
MUTATIONS = {
    name.strip("_").replace("_", " "): mutation
    for name, mutation in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and name != "_another_name"
}


def is_detected(folder: Path) -> bool:
    """Whether `synth verify --sealed` fails. An error other than ours is raised: it is a bug."""
    try:
        shards = ShardSet.open(str(folder))
        return shards.seal() is None or bool(list(validate_shard_set(shards)))
    except SynthError:
        return True


def seen_by_readers(folder: Path) -> dict[str, bytes]:
    """Content of every file that a reader looks at, by path."""
    paths = {path for pattern in GLOBS for path in folder.glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_detected_or_no_reader_sees_it(tmp_path: Path, name: str) -> None:
    make_set(tmp_path / "original")
    files = sorted(tree(tmp_path / "original"))
    original = seen_by_readers(tmp_path / "original")
    rng = random.Random(name)
    num_detected = 0
    for number in range(TRIES):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "original", folder)
        MUTATIONS[name](folder, files, rng)
        if is_detected(folder):
            num_detected += 1
        else:
            assert seen_by_readers(folder) == original, folder
    # These may leave all that readers see as it was, such as by a copy that no reader looks at.
    harmless = {"rename", "duplicate", "add a file", "swap files", "overwrite"}
    assert num_detected == TRIES or name in harmless
