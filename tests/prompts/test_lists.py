from prompts.lists import EMBEDDED_LIST
from prompts.merging import merge_subjects
from prompts.sources.file import CaptionFile, CaptionFileConfig


def test_embedded_list_has_a_caption_of_each_concept_with_its_licence() -> None:
    rows = merge_subjects(CaptionFile(CaptionFileConfig(file=str(EMBEDDED_LIST))).subjects(()))
    assert [row.num_merged for row in rows] == [1] * 249
    assert {row.licence for row in rows} == {"CC0-1.0"}
    assert all(row.label and row.source for row in rows)
    assert len({row.label for row in rows}) == 249


def test_the_readme_names_every_list() -> None:
    readme = (EMBEDDED_LIST.parent / "README.md").read_text()
    lists = [
        path.name
        for path in EMBEDDED_LIST.parent.iterdir()
        if path.suffix in (".jsonl", ".csv", ".txt")
    ]
    assert EMBEDDED_LIST.name in lists
    assert [name for name in lists if f"`{name}`" not in readme] == []
