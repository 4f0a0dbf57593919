"""Numbers of a run: `metrics.jsonl` and TensorBoard, from the same dictionary."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"
BOARD = "tensorboard"


class Metrics:
    """Appends; whatever a killed run wrote after the step it is resumed from is dropped.

    Args:
        step: The step that the run goes on from, 0 for a new one.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        path = run / FILE
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        path.write_text("".join(kept), "utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / BOARD), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; on disk when this returns, as far as the system tells."""
        self._file.write(f"{json.dumps({'step': step, **values})}\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard holds back."""
        self._file.close()
        self._board.close()


def _lines(path: Path) -> list[str]:
    """Whole lines only: a killed run may have left a part of one."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("}\n")]


def read_metrics(run: Path) -> list[dict[str, float]]:
    """All lines of a run's `metrics.jsonl`."""
    return [json.loads(line) for line in _lines(run / FILE)]
