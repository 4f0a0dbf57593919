"""Numbers of a run: `metrics.jsonl` and TensorBoard, from the same dictionary."""

import json
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from manifests.foundation.files import write_whole

FILE = "metrics.jsonl"
BOARD = "tensorboard"


class Metrics:
    """Appends; whatever a killed run wrote after the step it is resumed from is dropped.

    Args:
        step: The step that the run goes on from, 0 for a new one.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        path = run / FILE
        kept = [line for line in _lines(path) if line["step"] <= step]
        write_whole(path, "".join(f"{json.dumps(line)}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / BOARD), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; on disk when this returns, as far as the system tells."""
        line = {"step": step} | {n: v if isfinite(v) else None for n, v in values.items()}
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard holds back."""
        self._file.close()
        self._board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines only: a killed run may have left a part of one."""
    found = []
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                found.append(line)
    return found


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; a value that was not finite is None."""
    return _lines(run / FILE)
