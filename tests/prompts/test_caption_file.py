from pathlib import Path

import pytest

from manifests.columns import DeclaredColumn
from prompts.errors import BadPromptError
from prompts.sources.file import CaptionFile, CaptionFileConfig
from prompts.subject import Subject
from tests.sets import refused

COLUMNS = (
    DeclaredColumn("negative_prompt", "string", "what to avoid", scope="subject"),
    DeclaredColumn("weight", "double", "a number", scope="subject"),
    DeclaredColumn("count", "int64", "a count", scope="subject"),
    DeclaredColumn("is_sharp", "bool", "a flag", scope="subject"),
)


def subjects(path: Path) -> list[Subject]:
    return list(CaptionFile(CaptionFileConfig(file=str(path))).subjects(COLUMNS))


def test_declared_columns_are_read_in_their_types(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text(
        "caption,label,negative_prompt,weight,count,is_sharp,other\n"
        "a red fox,fox, too  dark ,0.5,3,True,x\n"
        "a blue door,,,,,,\n"
    )
    fox, door = subjects(path)
    assert (fox.text, fox.label, fox.source) == ("a red fox", "fox", "")
    assert fox.values == {
        "negative_prompt": "too dark",
        "weight": 0.5,
        "count": 3,
        "is_sharp": True,
    }
    assert door.values == {"negative_prompt": "", "weight": 0.0, "count": 0, "is_sharp": False}


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("weight", "heavy", "weight is 'heavy', expected double"),
        ("weight", "nan", "weight is 'nan', out of its range"),
        ("count", "1.5", "count is '1.5', expected int64"),
        ("count", "9" * 30, "out of its range"),
        ("is_sharp", "yes", "is_sharp is 'yes', expected bool"),
    ],
)
def test_a_cell_that_is_no_value_of_its_column_is_refused(
    tmp_path: Path, column: str, value: str, part: str
) -> None:
    path = tmp_path / "captions.csv"
    path.write_text(f"caption,{column}\na red fox,{value}\n")
    with refused(BadPromptError, f"{path}, row 1", part):
        subjects(path)
