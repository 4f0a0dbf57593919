"""Programs as subjects: those of the package by number, those of a folder by name."""

from pathlib import Path

import pytest

from manifests.ids import canonical_text
from prompts.errors import BadPromptError, UnreadablePromptsError
from prompts.programs.accepted import accepted_programs, program_text
from prompts.sources.programs import MAX_BYTES, Programs, ProgramsConfig
from tests.sets import refused


def test_numbers_name_the_same_programs_wherever_one_begins() -> None:
    many = list(Programs(ProgramsConfig(count=10)).subjects(()))
    later = list(Programs(ProgramsConfig(count=4, first=6)).subjects(()))
    assert later == many[6:]
    assert many[3].text == canonical_text(program_text(3))
    assert {subject.kind for subject in many} == {"program"}
    assert len({subject.label for subject in many}) == 10
    assert many[3].source == "synth image programs, grammar 1, number 3"


def test_accepted_programs_are_ascending_and_their_count_goes_around() -> None:
    numbers = accepted_programs()
    assert (numbers[1:] > numbers[:-1]).all()
    assert program_text(len(numbers) + 2) == program_text(2)


def test_more_programs_than_there_are_is_refused() -> None:
    first = len(accepted_programs()) - 1
    with refused(UnreadablePromptsError, "are asked for", "--set prompts.count"):
        next(Programs(ProgramsConfig(count=2, first=first)).subjects(()))


def test_files_of_a_folder_are_subjects_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("f = x(p)\n\n  c = hue(f, 1, 1)\n")
    (tmp_path / "a.txt").write_text("c = hue(t, 1, 1)")
    (tmp_path / "notes.md").write_text("not a program")
    subjects = list(Programs(ProgramsConfig(folder=str(tmp_path))).subjects(()))
    assert [(subject.label, subject.text) for subject in subjects] == [
        ("a", "c = hue(t, 1, 1)"),
        ("b", "f = x(p); c = hue(f, 1, 1)"),
    ]


def test_folders_without_programs_are_refused(tmp_path: Path) -> None:
    for folder, words in (
        (tmp_path / "none", "no such folder of programs"),
        (tmp_path, "no program in it"),
    ):
        with refused(UnreadablePromptsError, str(folder), words):
            next(Programs(ProgramsConfig(folder=str(folder))).subjects(()))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (MAX_BYTES + 1)], ids=["bytes", "large"])
def test_a_file_that_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with refused(BadPromptError, "a.txt: not a text of at most 64 kB"):
        next(Programs(ProgramsConfig(folder=str(tmp_path))).subjects(()))
