"""`--nproc`: the ranks that are started, and the exit status when one of them fails."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.foundation.errors import ConfigError
from tests.conftest import ROOT
from tests.running import environment
from tests.sets import refused
from trainer.launching import STORE_VARIABLE, launch

LAUNCH = """
import os, pathlib, signal, sys
from trainer.launching import launch
assert "torch" not in sys.modules
status = launch(2)
if status is not None:
    raise SystemExit(status)
rank = os.environ["RANK"]
pathlib.Path(sys.argv[1], rank).write_text(os.environ["WORLD_SIZE"])
exec(sys.argv[2])
"""


def launched(folder: Path, what_ranks_do: str) -> tuple[int, str]:
    """Exit status of the launcher, and what was written to the terminal."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, str(folder), what_ranks_do],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_rank_is_started_and_only_rank_0_writes_to_the_terminal(tmp_path: Path) -> None:
    assert launched(tmp_path, "print('this is rank', rank)") == (0, "this is rank 0\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "2", "1": "2"}


def test_last_line_and_status_of_a_rank_that_fails_are_passed_on(tmp_path: Path) -> None:
    code = "if rank == '1': print('first'); sys.exit('a view cannot be read')"
    status, output = launched(tmp_path, code)
    assert (status, output) == (1, "rank 1: a view cannot be read\n")


def test_rank_that_is_killed_gives_the_status_of_a_shell(tmp_path: Path) -> None:
    code = "if rank == '1': os.kill(os.getpid(), signal.SIGKILL)"
    status, output = launched(tmp_path, code)
    assert (status, output) == (137, "rank 1: was ended by SIGKILL\n")


def test_what_a_killed_rank_said_before_is_not_the_reason(tmp_path: Path) -> None:
    code = "if rank == '1': print('a warning', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    assert launched(tmp_path, code) == (137, "rank 1: was ended by SIGKILL\n")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process of the end of its")
def test_ranks_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    code = "import time; pathlib.Path(sys.argv[1], 'pid' + rank).write_text(str(os.getpid())); "
    code += "time.sleep(300)"
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(tmp_path), code], cwd=ROOT, env=environment()
    ) as launcher:
        while len(pids := [*tmp_path.glob("pid?")]) < 2 or not all(p.read_text() for p in pids):
            time.sleep(0.05)
        launcher.kill()
    ranks = [int(path.read_text()) for path in pids]
    while any(is_running(rank) for rank in ranks):
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """A zombie is none: nobody has asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_rank_and_single_process_train_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert launch(1) is None
    monkeypatch.setenv(STORE_VARIABLE, "somewhere")
    assert launch(2) is None


def test_ranks_of_torchrun_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with refused(ConfigError, "--nproc", "torchrun"):
        launch(2)
