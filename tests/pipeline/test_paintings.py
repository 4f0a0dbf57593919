"""The held-out handwriting: a fixed protocol, the same bytes, and no glyph in two splits."""

import json
import sys
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from manifests.foundation.errors import PluginError
from pipeline.embedded.paintings import NUM_NEIGHBOURS, PROTOCOL, Paintings, write_paintings
from pipeline.embedded.world import glyphs, paint_split, split_indices
from pipeline.encoding import decode
from pipeline.errors import PipelineError
from synth import main
from tests.sets import refused, tree

pytestmark = pytest.mark.slow

COUNTS = {"train": 5032, "select": 807, "report": 810}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("paintings") / "handwriting"
    assert write_paintings(found) == COUNTS
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One painting of each glyph, for what does not depend on their number."""
    once = {name: Paintings(per_glyph=1, seed=each.seed) for name, each in PROTOCOL.items()}
    monkeypatch.setattr("pipeline.embedded.paintings.PROTOCOL", once)


def members(folder: Path, split: str) -> dict[str, bytes]:
    with tarfile.open(folder / split / "000000.tar", "r:") as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def test_protocol_is_the_one_that_was_fixed() -> None:
    fixed = {"train": (4, 101), "select": (3, 102), "report": (3, 103)}
    assert {name: (each.per_glyph, each.seed) for name, each in PROTOCOL.items()} == fixed
    assert NUM_NEIGHBOURS == 20


@pytest.mark.parametrize("split", PROTOCOL)
def test_pictures_labels_and_groups_are_those_of_the_world(folder: Path, split: str) -> None:
    found, per_glyph = members(folder, split), PROTOCOL[split].per_glyph  # type: ignore[index]
    pictures, _, said = paint_split(
        split,  # type: ignore[arg-type]
        paintings_per_glyph=per_glyph,
        seed=PROTOCOL[split].seed,  # type: ignore[index]
    )
    digits = glyphs(split).digit  # type: ignore[arg-type]
    assert len(found) == 3 * len(pictures)
    for index in range(0, len(pictures), 97):
        about = json.loads(found[f"{index:06d}.json"])
        np.testing.assert_array_equal(decode(found[f"{index:06d}.png"], where="a"), pictures[index])
        assert int(found[f"{index:06d}.cls"]) == about["digit"] == said[index].digit
        assert about["digit"] == digits[index // per_glyph]
        assert about["group"] == f"{split}-{index // per_glyph}"
        assert about["ink"] != about["ground"]


def test_no_glyph_is_in_two_splits(folder: Path) -> None:
    rows = [set(split_indices(split).tolist()) for split in PROTOCOL]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 1797
    groups = [
        {
            json.loads(data)["group"]
            for name, data in members(folder, split).items()
            if "json" in name
        }
        for split in PROTOCOL
    ]
    assert [len(each) for each in groups] == [1258, 269, 270]
    assert len(set.union(*groups)) == 1797


@pytest.mark.usefixtures("small")
def test_command_a_second_time_writes_nothing(tmp_path: Path) -> None:
    times = []
    for _ in range(2):
        result = CliRunner().invoke(main, ["handwriting", "--out", str(tmp_path / "set")])
        assert result.output == f"{tmp_path}/set: 1,258 train, 269 select, 270 report\n"
        times.append({path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")})
    assert times[0] == times[1]


@pytest.mark.usefixtures("small")
def test_bytes_are_the_same_and_a_killed_run_is_completed(tmp_path: Path) -> None:
    write_paintings(tmp_path / "set")
    before = tree(tmp_path / "set")
    (tmp_path / "set/report/000000.tar").unlink()
    (tmp_path / "set/README.md").unlink()
    write_paintings(tmp_path / "set")
    assert tree(tmp_path / "set") == before
    with tarfile.open(tmp_path / "set/report/000000.tar", "r:") as tar:
        assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in tar} == {
            (0, 0, 0, "", 0o644)
        }


def test_documents_say_licence_and_names(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    assert "CC BY 4.0" in readme
    assert "Optical Recognition of Handwritten Digits" in readme
    assert (folder / "classnames.txt").read_text().split()[:3] == ["zero", "one", "two"]
    assert (folder / "zeroshot_classification_templates.txt").read_text() == "a {c}\n"


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear reader")
    with refused(PipelineError, f"{tmp_path}: holds thesis.txt; give a new"):
        write_paintings(tmp_path)
    assert tree(tmp_path) == {"thesis.txt": b"dear reader"}


@pytest.mark.usefixtures("small")
def test_changed_set_is_refused(tmp_path: Path) -> None:
    write_paintings(tmp_path / "set")
    path = tmp_path / "set/train/000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with refused(PipelineError, "train/000000.tar: not as `synth handwriting` writes it"):
        write_paintings(tmp_path / "set")
    assert sha256(path.read_bytes()).digest() == sha256(data).digest()


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with refused(PipelineError, f"{tmp_path}/out: a file"):
        write_paintings(tmp_path / "out")


def test_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.embedded import world

    world._all_glyphs.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with refused(PluginError, "scikit-learn: pip install 'synth-rep[demo]'"):
        write_paintings(tmp_path / "out")
    assert not (tmp_path / "out").exists()
