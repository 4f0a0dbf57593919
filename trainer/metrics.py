"""Numbers of a run: `metrics.jsonl`, TensorBoard and other sinks, from the same dictionary."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from manifests.foundation.files import read_regular, write_whole
from trainer.errors import CheckpointError

FILE = "metrics.jsonl"
BOARD = "tensorboard"
MAX_BYTES = 4 << 30
"""Largest `metrics.jsonl` that is read."""


class Sink(Protocol):
    """Where the numbers of a run go besides its folder."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers after a step."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Metrics:
    """Appends to the numbers of a run, in a context that ends with `close`.

    Lines and events after the step from which the run is resumed are dropped: the resumed run
    writes them again.

    Args:
        run: Folder of the run.
        step: Number of steps that are done, 0 for a new run.
        sinks: Get the same numbers.

    Raises:
        CheckpointError: The numbers of the run are damaged.
    """

    def __init__(self, run: Path, *, step: int, sinks: Sequence[Sink] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only here: numbers are read without it

        self._sinks = sinks
        path = run / FILE
        kept = [line for line in read_metrics(run) if line["step"] <= step] if step else []
        write_whole(path, "".join(f"{json.dumps(line)}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / BOARD), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line, which the operating system has when this returns.

        Args:
            step: Number of steps that are done.
            values: Numbers by name; one that is not finite becomes null in the file.
        """
        line = {"step": step} | {n: v if isfinite(v) else None for n, v in values.items()}
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        for sink in self._sinks:
            sink.write(step, values)

    def close(self) -> None:
        """Write out what TensorBoard still keeps in memory, and end its thread."""
        self._file.close()
        self._board.close()
        for sink in self._sinks:
            sink.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; a value that was not finite is None.

    The last line may be cut, because the run may have been killed while it wrote; it is left out.

    Raises:
        CheckpointError: Another line is not an object with a step, or the file cannot be read.
    """
    path = run / FILE
    try:
        lines = read_regular(path, max_bytes=MAX_BYTES, may_grow=True).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror}); remove it") from exc
    # What follows the last line end is a line that was cut, or nothing.
    parsed = [_parsed(line) for line in lines[:-1]]
    if None in parsed:
        raise CheckpointError(
            f"{path}: line {parsed.index(None) + 1} is not a JSON object with a step; restore the "
            "file from a copy, or remove it"
        )
    return [line for line in parsed if line is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None
