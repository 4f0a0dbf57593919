"""A signal ends a command that makes a set in time, with a line that says what is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.stopping import JobStopped


@dataclass(slots=True)
class Kept:
    """How much of a set there is when its command is stopped."""

    num_shards: int = 0
    """Of the whole set; 0 until it is begun."""
    num_kept: int = 0
    """Shards that are there: those of earlier runs, and those that this command made."""


@contextmanager
def stopping(out: str, *, again: str = "the same command") -> Iterator[Kept]:
    """Within it, a signal ends the command in time, with a line that says what is kept.

    Args:
        out: URL of the set.
        again: Command that resumes a set that is begun.
    """
    from rich.console import Console

    from manifests.foundation.messages import redact
    from pipeline.stopping import JobStopped, stopping_on_signals

    kept = Kept()

    def last_words(stopped: "JobStopped") -> None:
        Console(stderr=True).show_cursor()  # a bar has hidden it, if the process is ended now
        if kept.num_shards:
            what = f", {kept.num_kept:,} of {kept.num_shards:,} shards are kept; {again} resumes"
        else:
            what = " before it was begun or resumed; start it again"
        click.echo(f"{redact(out)}: stopped by {stopped}{what}", err=True)

    try:
        with stopping_on_signals(last_words):
            yield kept
    except JobStopped as stopped:
        last_words(stopped)
        raise SystemExit(stopped.status) from stopped
