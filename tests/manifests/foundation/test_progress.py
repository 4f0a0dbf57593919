"""Progress says what is known, on any terminal and on none."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from manifests.foundation import progress as module
from manifests.foundation.progress import Pace, clock, progress
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("total", "words"), [(30, "read: 20 of 30 subjects"), (None, "read: 20 subjects")]
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
    assert output.err == f"{words}\n"  # and neither a rate nor a time: nothing was measured yet
    assert output.out == ""


def test_nothing_is_said_before_the_time_has_come(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("read", "subjects", None) as advance:
        advance(20)
    assert capsys.readouterr().err == ""


def paced(unit: str, total: int | None, *steps: tuple[float, int], done: int = 0) -> Pace:
    """A pace from second 0, with so many units done at each of some seconds."""
    pace = Pace(unit, total, done, now=0.0)
    for now, count in steps:
        pace.advance(count, share=None, note="", now=now)
    return pace


def test_there_is_no_rate_before_something_was_measured() -> None:
    assert paced("views", 800).parts(600.0) == ["0 of 800 views", "", "", ""]
    assert paced("views", 800, (0.1, 16)).parts(0.2) == ["16 of 800 views", "", "", ""]


def test_a_rate_is_that_of_this_run_and_the_time_left_follows_from_it() -> None:
    pace = paced("views", 800, (4.0, 40), done=600)
    assert pace.parts(4.0) == ["640 of 800 views", "10.0/s", "0:16 left", ""]
    assert pace.parts(8.0) == ["640 of 800 views", "5.0/s", "0:32 left", ""]


def test_a_rate_is_that_of_the_last_minute() -> None:
    pace = paced("views", 10_000, *((float(second), 100) for second in range(1, 11)))
    for second in range(11, 101):
        pace.advance(1, share=None, note="", now=float(second))
    assert pace.parts(100.0)[1] == "1.0/s"


def test_a_rate_of_what_is_finished_stays_as_it_was() -> None:
    pace = paced("shards", 20, (2.0, 20))
    assert pace.parts(2.0) == pace.parts(500.0) == ["20 of 20 shards", "10.0/s", "", ""]


def test_units_that_are_done_again_make_no_negative_rate() -> None:
    assert paced("views", 80, (1.0, 16), (2.0, -16)).parts(3.0) == ["0 of 80 views", "", "", ""]


def test_a_share_tells_the_time_left_where_nobody_knows_how_many_there_are() -> None:
    pace = Pace("images", None, now=0.0)
    pace.advance(48, share=0.25, note="", now=2.0)
    assert pace.parts(2.0) == ["48 images, 25%", "24.0/s", "0:06 left", ""]


def test_bytes_are_shown_in_units_that_people_read() -> None:
    pace = paced("bytes", 3_400_000_000, (2.0, 1_700_000_000))
    assert pace.parts(2.0) == ["1.7 GB of 3.4 GB", "850.0 MB/s", "0:02 left", ""]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(7.4, "0:07"), (750, "12:30"), (11_100, "3:05:00"), (3_542_400, "41 days")],
)
def test_a_time_is_short(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


_SHOW = """
import time
from manifests.foundation import progress as module
clock = iter(range(1_000_000))
time.monotonic = lambda: float(next(clock))
with module.progress("generate", "views", 800, 0) as advance:
    advance(16, note="loss 3.21")
"""


def on_terminal(columns: int, **environment: str) -> str:
    """What a terminal of so many columns is sent."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _SHOW],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm"}
        | environment,
        stderr=terminal,
    )
    os.close(terminal)
    sent = io.BytesIO()
    while True:
        try:
            sent.write(os.read(controller, 4096))
        except OSError:  # the process has ended
            break
    os.close(controller)
    assert process.wait() == 0
    return sent.getvalue().decode()


def lines_of(sent: str) -> list[str]:
    """The texts without their colours and movements of the cursor."""
    texts = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent).replace("\r", "\n").splitlines()
    return [text.rstrip() for text in texts if text.strip()]


@pytest.mark.parametrize("columns", [20, 40, 60, 100])
def test_a_line_fits_into_a_terminal(columns: int) -> None:
    last = lines_of(on_terminal(columns))[-1]
    assert len(last) <= columns
    assert last.startswith("generate: 16 of 800" if columns > 20 else "generate: 16 of ")
    assert ("left" in last) == (columns >= 40)
    assert ("loss 3.21" in last) == (columns >= 60)


def test_a_terminal_without_utf8_gets_ascii() -> None:
    sent = on_terminal(100, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert sent.isascii()
    assert "16 of 800 views" in sent
