"""A renderer that fails on everything or breaks a law begins no set, and one without a good view
seals none."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.errors import ModelError, TooManyFailedError
from pipeline.generating import FIRST_SHARDS, Generation, begin, finish, run
from tests.sets import refused

CAPTIONS = [f"thing {index}" for index in range(6)]


def started(folder: Path, trouble: str, captions: list[str], **more: Any) -> Generation:
    """A set of 6 shards of 2 views, whose renderer is in trouble with some captions."""
    (folder / "trouble").mkdir(exist_ok=True)
    (folder / "trouble" / trouble).write_text("\n".join(captions))
    (folder / "captions.txt").write_text("\n".join(CAPTIONS))
    flags = {
        "prompts.file": str(folder / "captions.txt"),
        "renderer.name": "tests.renderers:Faulty",
        "renderer.trouble": str(folder / "trouble"),
        "views.per_subject": 2,
        "shards.subjects": 1,
        "execution.executor": "inline",
        **more,
    }
    return begin(load_config(recipe=None, overrides=[], flags=flags), str(folder / "set"))


def test_a_renderer_that_raises_on_everything_begins_no_set(tmp_path: Path) -> None:
    with refused(
        ModelError, "none of 4 views of 8 x 8 px that were tried", "cannot render 'thing 0'"
    ):
        started(tmp_path, "raise", CAPTIONS)
    assert not (tmp_path / "set" / "recipe.json").exists()


def test_a_renderer_whose_pixels_change_with_its_neighbours_begins_no_set(tmp_path: Path) -> None:
    changes = {"renderer.name": "tests.renderers:Crowded", "renderer.trouble": None}
    with refused(
        ModelError, "the pixels of 000000000_000 change by", "of 255 levels", "--batch-size 1"
    ):
        started(tmp_path, "none", [], **changes)
    assert not (tmp_path / "set" / "recipe.json").exists()


def test_a_bad_first_caption_costs_its_own_views(tmp_path: Path) -> None:
    generation = started(tmp_path, "raise", CAPTIONS[:1])
    for _ in run(generation):
        pass
    seal = finish(generation, seal_incomplete=False)
    assert seal is not None
    assert (seal.counts["num_ok"], seal.counts["num_failed"]) == (10, 2)


def test_a_run_ends_when_the_first_shards_hold_no_good_view(tmp_path: Path) -> None:
    generation = started(tmp_path, "blank", CAPTIONS)
    outcomes = []
    with refused(TooManyFailedError, "the first 3 shards hold no good view"):
        outcomes += list(run(generation))
    assert len(generation.shards.committed()) >= FIRST_SHARDS
    assert generation.shards.seal() is None


def test_a_run_ends_when_more_views_fail_than_may(tmp_path: Path) -> None:
    generation = started(tmp_path, "blank", CAPTIONS[2:4])
    with refused(TooManyFailedError, "4 views have failed, more than 20.0% of the set"):
        for _ in run(generation, max_failed=0.2):
            pass
    again = started(tmp_path, "blank", CAPTIONS[2:4])
    for _ in run(again, max_failed=0.4):
        pass
    assert finish(again, seal_incomplete=False) is not None


def test_a_whole_set_without_good_views_is_sealed_only_if_asked(tmp_path: Path) -> None:
    def run_on() -> Generation:
        generation = started(tmp_path, "blank", CAPTIONS)
        with suppress(TooManyFailedError):
            for _ in run(generation):
                pass
        return generation

    # Each command makes some shards more, until the set is whole.
    while len((generation := run_on()).shards.committed()) < len(CAPTIONS):
        pass
    with refused(TooManyFailedError, "no view is good, so it is not sealed", "--seal-incomplete"):
        finish(generation, seal_incomplete=False)
    assert generation.shards.seal() is None
    assert finish(generation, seal_incomplete=True) is not None
