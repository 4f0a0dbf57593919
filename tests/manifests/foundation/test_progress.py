"""Progress where no terminal is: plain lines on standard error."""

import pytest

from manifests.foundation import progress as module
from manifests.foundation.progress import progress


@pytest.mark.parametrize(
    ("total", "words"), [(30, "read: 20 of 30 subjects, "), (None, "read: 20 subjects, ")]
)
def test_plain_lines_say_how_many_there_are_if_that_is_known(
    total: int | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "PLAIN_LINE_EVERY_S", 0.0)
    with progress("read", "subjects", total) as advance:
        advance(20)
    output = capsys.readouterr()
    assert words in output.err
    assert ("left" in output.err) == (total is not None)
    assert output.out == ""


def test_nothing_is_said_before_the_time_has_come(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("read", "subjects", None) as advance:
        advance(20)
    assert capsys.readouterr().err == ""
