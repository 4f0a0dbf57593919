"""The pictogram world: a fixed protocol, the same bytes, and no unseen artist in training."""

import json
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.embedded import scenes, sprites
from pipeline.embedded.captions import describe, draw_descriptions, words
from pipeline.embedded.pictograms import PROTOCOL, Split, scenes_of, write_pictograms
from pipeline.embedded.scenes import GROUND_NAMES, draw_scenes, held_out_ground, paint
from pipeline.embedded.sprites import (
    FAMILIES,
    HARD_FAMILY,
    TEST_FAMILY,
    TRAINING_FAMILIES,
    concepts,
)
from pipeline.embedded.vocabulary import unknown_words, warning
from pipeline.errors import PipelineError
from synth import main
from tests.sets import refused, tree

COUNTS = {
    "train": 5976,
    "bank": 1494,
    "select": 1494,
    "test": 1494,
    "hard": 1494,
    "test-shot": 249,
    "hard-shot": 249,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One split of one family, for what does not depend on their number."""
    one = {"test": Split(families=(TEST_FAMILY,), per_drawing=1, seed=203)}
    monkeypatch.setattr("pipeline.embedded.pictograms.PROTOCOL", one)


def test_atlases_are_those_that_were_drawn() -> None:
    record = json.loads((sprites.FOLDER / "sprites.json").read_text())
    hashes = {
        family: sha256((sprites.FOLDER / "drawings" / f"{family}.webp").read_bytes()).hexdigest()
        for family in FAMILIES
    }
    assert hashes == {family: entry["atlas_sha256"] for family, entry in record.items()}


def test_every_concept_has_a_name_of_its_own_and_a_drawing_by_everyone() -> None:
    named = [name for thing in concepts() for name in (thing.name, *thing.synonyms)]
    assert len(concepts()) == 249
    assert len(set(named)) == len(named)
    assert len({thing.group for thing in concepts()}) == 24
    for family in FAMILIES:
        drawn = sprites.sprites(family)
        assert drawn.shape == (249, 64, 64, 4)
        assert ((drawn[..., 3] > 128).mean(axis=(1, 2)) > 0.02).all()


def test_no_two_artists_share_a_drawing() -> None:
    seen = [sprite.tobytes() for family in FAMILIES for sprite in sprites.sprites(family)]
    assert len(set(seen)) == len(seen)


def test_unseen_artists_are_in_the_test_splits_alone() -> None:
    families = {name: set(split.families) for name, split in PROTOCOL.items()}
    for name in ("train", "bank", "select"):
        assert families[name] == set(TRAINING_FAMILIES)
    assert families["test"] == families["test-shot"] == {TEST_FAMILY}
    assert families["hard"] == families["hard-shot"] == {HARD_FAMILY}
    assert not {TEST_FAMILY, HARD_FAMILY} & set(TRAINING_FAMILIES)


def test_training_pictures_open_no_atlas_of_an_unseen_artist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def noted(family: str) -> np.ndarray:
        opened.append(family)
        return sprites.sprites(family)

    monkeypatch.setattr(scenes, "sprites", noted)
    rng = np.random.default_rng(0)
    for name in ("train", "select"):
        some = draw_scenes(rng, 8, num_families=3, with_held_out=True)
        paint(rng, some, PROTOCOL[name].families)
    assert set(opened) == {"noto", "twemoji", "fluent-emoji-flat"}


def test_one_shot_pictures_have_grounds_that_the_test_has_not() -> None:
    for name in ("test", "hard"):
        many, one = scenes_of(PROTOCOL[name]), scenes_of(PROTOCOL[f"{name}-shot"])
        pairs = set(zip(many.concept.tolist(), many.ground.tolist(), strict=True))
        assert len(pairs) == 6 * 249
        assert not pairs & set(zip(one.concept.tolist(), one.ground.tolist(), strict=True))


def test_grounds_do_not_tell_the_concept() -> None:
    many = scenes_of(PROTOCOL["train"])
    shares = np.bincount(many.ground, minlength=len(GROUND_NAMES)) / len(many.ground)
    assert (shares > 0.06).all()
    assert (shares < 0.12).all()


def test_pairs_for_the_gates_are_never_trained_on() -> None:
    some = draw_scenes(np.random.default_rng(0), 20_000, num_families=3, with_held_out=False)
    assert not (some.ground == held_out_ground(some.concept)).any()
    assert set(some.ground.tolist()) == set(range(len(GROUND_NAMES)))


def test_pictures_are_the_same_for_the_same_seed() -> None:
    some = draw_scenes(np.random.default_rng(1), 16, num_families=3, with_held_out=True)
    first, again, other = (
        paint(np.random.default_rng(seed), some, TRAINING_FAMILIES) for seed in (5, 5, 6)
    )
    assert first.shape == (16, 32, 32, 3)
    assert (first == again).all()
    assert (first != other).any()


def test_captions_name_the_concept_and_seldom_the_ground() -> None:
    rng = np.random.default_rng(3)
    penguin = [thing.name for thing in concepts()].index("penguin")
    captions = {describe(rng, penguin, GROUND_NAMES.index("blue")).caption() for _ in range(100)}
    assert captions == {
        "a penguin",
        "a bird, a penguin",
        "a penguin on blue",
        "a bird, a penguin on blue",
    }
    said = draw_descriptions(rng, 249)
    assert len({each.caption() for each in said}) == 249
    assert 0.15 < np.mean([each.ground is not None for each in said]) < 0.35


def test_every_caption_is_in_the_vocabulary() -> None:
    captions = [each.caption() for each in draw_descriptions(np.random.default_rng(4), 1500)]
    assert unknown_words(captions, words()) == {}


def test_unknown_words_are_named_once_with_the_nearest_known() -> None:
    found = unknown_words(["a pengiun on blue", "A pengiun, a qxqx", ""], words())
    assert found == {"pengiun": ["penguin", "engine"], "qxqx": []}


def test_warning_is_of_models_that_say_their_words(tmp_path: Path) -> None:
    assert warning(tmp_path, ["a pengiun"]) is None
    (tmp_path / "words.txt").write_text("a\npenguin\n")
    assert warning(tmp_path, ["a penguin", ""]) is None
    assert warning(tmp_path, ["a pengiun"]) == (
        "the model does not know 'pengiun' (nearest: penguin): it draws captions as if they were "
        "not there; the words that it knows are in words.txt of its folder"
    )


@pytest.mark.slow
def test_whole_set_has_the_splits_of_the_protocol(tmp_path: Path) -> None:
    assert write_pictograms(tmp_path / "set") == COUNTS
    with tarfile.open(tmp_path / "set/train/000000.tar", "r:") as tar:
        about = json.load(tar.extractfile("000000.json"))  # type: ignore[arg-type]
        label = tar.extractfile("000000.cls").read()  # type: ignore[union-attr]
    assert about["group"] == "noto-0"
    assert about["concept"] == concepts()[int(label)].name == "rat"


@pytest.mark.usefixtures("small")
def test_bytes_are_the_same_and_a_killed_run_is_completed(tmp_path: Path) -> None:
    write_pictograms(tmp_path / "set")
    before = tree(tmp_path / "set")
    (tmp_path / "set/test/000000.tar").unlink()
    write_pictograms(tmp_path / "set")
    assert tree(tmp_path / "set") == before
    readme = (tmp_path / "set/README.md").read_text()
    assert "CC BY-SA 4.0" in readme


@pytest.mark.usefixtures("small")
def test_command_a_second_time_writes_nothing(tmp_path: Path) -> None:
    times = []
    for _ in range(2):
        result = CliRunner().invoke(main, ["pictograms", "--out", str(tmp_path / "set")])
        assert result.output == f"{tmp_path}/set: 249 test\n"
        times.append({path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")})
    assert times[0] == times[1]


@pytest.mark.usefixtures("small")
def test_changed_set_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    write_pictograms(tmp_path / "set")
    (tmp_path / "set/classnames.txt").write_text("")
    with refused(PipelineError, "classnames.txt: not as `synth pictograms` writes it"):
        write_pictograms(tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("dear reader")
    with refused(PipelineError, "holds thesis.txt; give a new"):
        write_pictograms(tmp_path / "other")
