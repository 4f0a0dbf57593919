"""Anchors as subjects: numbers, seeds and classes."""

from pathlib import Path
from typing import Any

import pytest

from manifests.columns import DeclaredColumn
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.sources.anchors import Anchors, AnchorsConfig
from prompts.subject import Subject
from tests.sets import refused

COLUMNS = (DeclaredColumn("class_index", "int64", "class", scope="subject"),)


def anchors(**keys: Any) -> list[Subject]:
    return list(Anchors(AnchorsConfig(**keys)).subjects(COLUMNS))


def test_anchors_have_numbers_and_no_class() -> None:
    many, later = anchors(count=6), anchors(count=2, first=4)
    assert [subject.text for subject in many][:2] == ["anchor 0 of seed 0", "anchor 1 of seed 0"]
    assert later == many[4:]
    assert {subject.values["class_index"] for subject in many} == {-1}
    assert {subject.label for subject in many} == {""}
    texts = {subject.text for subject in many} | {
        subject.text for subject in anchors(seed=1, count=6)
    }
    assert len(texts) == 12


def test_classes_come_in_turn_and_are_labels(tmp_path: Path) -> None:
    plain = anchors(count=5, classes=2)
    assert [subject.values["class_index"] for subject in plain] == [0, 1, 0, 1, 0]
    assert [subject.label for subject in plain][:2] == ["class-0000", "class-0001"]
    names = tmp_path / "names.txt"
    names.write_text("cat\n\ndog\n")
    assert [s.label for s in anchors(count=3, classes=2, class_names=str(names))] == [
        *("cat", "dog", "cat")
    ]
    with refused(BadPromptError, "2 names for 3 classes"):
        anchors(count=3, classes=3, class_names=str(names))
    with refused(BadPromptError, "class names without prompts.classes"):
        anchors(count=3, class_names=str(names))
    with refused(UnreadablePromptsError, "no text file of class names"):
        anchors(count=3, classes=3, class_names=str(tmp_path / "absent.txt"))


def test_a_renderer_that_knows_no_latents_is_refused() -> None:
    with refused(BadPromptError, "give --renderer latent-neighbourhood"):
        next(Anchors(AnchorsConfig(classes=2)).subjects(()))


@pytest.mark.parametrize("keys", [{"count": 0}, {"first": -1}, {"classes": -1}])
def test_numbers_below_the_bounds(keys: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="greater than or equal"):
        AnchorsConfig(**keys)
