"""What ranks agree on, in real processes."""

import time
from pathlib import Path

from tests.ranks import run_ranks
from trainer.distributed import Control

DELAY_S = 1.0


def wait_for_rank_0(rank: int, world: int, folder: str) -> None:
    control = Control()
    control.total(1)  # connected
    start_s = time.monotonic()
    if rank == 0:
        time.sleep(DELAY_S)
    control.wait()
    Path(folder, f"waited-{rank}").write_text(str(time.monotonic() - start_s))
    assert control.total(rank, 5) == [1, 10]
    assert control.texts([f"rank {rank}"] * rank) == ["rank 1"]


def test_ranks_wait_for_each_other_and_add_up(tmp_path: Path) -> None:
    """Rank 0 may be writing a checkpoint: nobody leaves, or looks for it, before it is there."""
    run_ranks(wait_for_rank_0, 2, str(tmp_path), scratch=tmp_path)
    assert float((tmp_path / "waited-1").read_text()) >= DELAY_S * 0.9
