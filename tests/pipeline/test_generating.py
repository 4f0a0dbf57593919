"""What a resumed set says of the libraries that it was begun with."""

from pathlib import Path

import pytest

from pipeline import generating
from pipeline.config import GenerateConfig, load_config
from pipeline.generating import begin, rejoin, run

RENDERER = "tests.renderers:Stripes"


def recipe(folder: Path) -> GenerateConfig:
    """One caption, painted by a renderer without a model."""
    captions = folder / "captions.txt"
    captions.write_text("a red fox\n")
    flags = {
        "prompts.file": str(captions),
        "renderer.name": RENDERER,
        "execution.executor": "inline",
    }
    return load_config(recipe=None, overrides=[], flags=flags)


def test_drift_names_versions_that_changed_or_were_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "set")
    with monkeypatch.context() as then:
        then.setattr(
            generating,
            "versions_here",
            lambda: {"python": "3.9.1", "torch": "2.11.0", "diffusers": "0.42.0"},
        )
        begin(recipe(tmp_path), url)
    now = {"python": "3.9.2", "torch": "2.11.0", "pillow": "12.1.0"}
    monkeypatch.setattr(generating, "versions_here", lambda: now)
    generation = rejoin({"executor": "inline"}, url, trusted=[RENDERER])
    assert generation.drift == [
        "diffusers is not installed, the set was begun with 0.42.0",
        "python 3.9.2, the set was begun with 3.9.1",
        "pillow 12.1.0, the version that the set was begun with is not recorded",
    ]


def test_same_libraries_are_no_drift(tmp_path: Path) -> None:
    assert begin(recipe(tmp_path), str(tmp_path / "set")).drift == []


def test_a_set_that_is_begun_says_what_it_will_cost(tmp_path: Path) -> None:
    """By the view that was tried, so before anything is made; a resume tries nothing."""
    from tests.running import write_captions

    flags = {"prompts.file": str(write_captions(tmp_path, ["a one", "a two"]))}
    flags |= {"views.per_subject": 2, "renderer.steps": 1, "execution.executor": "inline"}
    config = load_config(recipe=None, overrides=[], flags=flags)
    generation = begin(config, str(tmp_path / "set"))
    assert generation.trial is not None
    assert generation.trial.view_s > 0
    for _ in run(generation):
        pass
    made = sum(path.stat().st_size for path in (tmp_path / "set/data").glob("*.tar")) / 4
    assert made / 3 < generation.trial.view_bytes < made * 3
    assert begin(config, str(tmp_path / "set")).trial is None
