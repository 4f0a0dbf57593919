"""What ranks agree on, in real processes."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import environment
from tests.sets import refused
from trainer.control import ControlChannel, at_own_pace
from trainer.errors import DataError, TrainerError
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


def pace(rank: int, world: int, folder: str) -> None:
    with at_own_pace(timeout_s=60):
        time.sleep(2.5 * rank)
        Path(folder, str(rank)).touch()
    assert Path(folder, str(1 - rank)).exists()
    kind, words = (DataError, "broken") if rank else (TrainerError, "another rank has failed")
    with refused(kind, words), at_own_pace(timeout_s=60):
        if rank:
            raise DataError("broken")
    with refused(DataError, "of both"), at_own_pace(timeout_s=60):
        raise DataError("of both")


def test_ranks_wait_at_their_own_pace_and_hear_of_a_failed_one(tmp_path: Path) -> None:
    run_ranks(pace, 2, str(tmp_path))


RANK = """
import os, sys, torch, torch.distributed as dist
from trainer.control import collective_errors
from trainer.errors import TrainerError
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
dist.barrier()
if rank == 1:
    os._exit(1)
try:
    with collective_errors():
        while True:
            dist.all_reduce(torch.ones(1))
except TrainerError as exc:
    print(exc)
"""


def test_of_a_rank_that_died_the_reason_is_one_whole_sentence(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")] for rank in (0, 1)]
    with subprocess.Popen(commands[1], env=environment()):
        done = subprocess.run(
            commands[0], env=environment(), stdout=subprocess.PIPE, text=True, timeout=120
        )
    assert re.fullmatch(
        r"rank 0: another rank is gone .* again \((Connection|Read error) [^()]+ peer[^()]*\)\n",
        done.stdout,
    ), done.stdout
    assert "GLHF" not in done.stdout
