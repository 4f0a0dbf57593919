"""A table of numbers cuts no word, however narrow the terminal is."""

import pytest
from rich.console import Console
from rich.text import Text

from manifests.foundation.fitting import FittingTable

ROWS = [
    ("linear", "checkpoints/step-000010000.pt", "61.0", "58.9-63.1"),
    ("linear-augmented", "run[/x]", "62.5", "60.4-64.6"),
]


def table() -> FittingTable:
    made = FittingTable(title="photos, test", caption="2,000 images")
    made.add_column("evaluation")
    made.add_column("encoder", overflow="fold")
    made.add_column("top-1 %", justify="right")
    made.add_column("95 % interval", justify="right")
    for evaluation, encoder, value, interval in ROWS:
        made.add_row(evaluation, Text(encoder), value, interval)
    return made


def shown(width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table())
    return capture.get()


def test_each_row_is_a_line_where_the_table_does_not_fit() -> None:
    text = " ".join(shown(40).split())
    assert text == (
        "photos, test "
        "linear, checkpoints/step-000010000.pt: top-1 % 61.0, 95 % interval 58.9-63.1 "
        "linear-augmented, run[/x]: top-1 % 62.5, 95 % interval 60.4-64.6 "
        "2,000 images"
    )


def test_a_table_that_fits_is_a_table() -> None:
    lines = shown(80).splitlines()
    (last,) = [line for line in lines if "run[/x]" in line]
    cells = [cell.strip() for cell in last.split("│")[1:-1]]
    assert cells == list(ROWS[1])
    (wide,) = [line for line in shown(200).splitlines() if ROWS[0][1] in line]
    assert len(wide) < 100  # no wider than it needs to be


@pytest.mark.parametrize("width", range(20, 100))
def test_no_word_is_cut_at_any_width(width: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    pieces = "".join(text.split())
    for row in ROWS:
        for cell in (row[2], row[3]):
            assert cell in text
        assert row[0] in pieces
    assert "…" not in text
