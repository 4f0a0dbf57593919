"""What ranks agree on, in real processes."""

from pathlib import Path

import pytest

from trainer.control import ControlChannel
from trainer.testing.ranks import run_ranks

pytestmark = pytest.mark.slow


def agree(rank: int, world: int, folder: str) -> None:
    control = ControlChannel()
    assert control.sum(rank, 5) == [1, 10]
    assert control.gather([(rank, "unreadable")] * rank) == [(1, "unreadable")]
    for turn in range(20):
        Path(folder, f"{rank}-{turn}").touch()
        control.barrier()
        assert Path(folder, f"{1 - rank}-{turn}").exists()


def test_ranks_wait_for_each_other_and_add_up(tmp_path: Path) -> None:
    """No rank looks for a checkpoint before the one that writes it has come to the barrier."""
    run_ranks(agree, 2, str(tmp_path))
