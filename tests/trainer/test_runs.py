"""The folder of a run: what is refused in it, and what `--fresh` removes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import environment
from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.exports import exported_paths
from trainer.metrics import Metrics, read_metrics
from trainer.runs import enter_run, locked, read_run

IDENTITY = {"run": {"seed": 1}}


def enter(run: Path, *, seed: int = 1, fresh: bool = False) -> None:
    files = exported_paths(["timm"])
    enter_run(run, {"run": {"seed": seed}}, {"git": ""}, exports=files, fresh=fresh)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"5", b'{"identity": [], "sessions": []}', b"[" * 100_000],
)
def test_damaged_run_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    for fresh in (False, True):
        with refused(CheckpointError, str(tmp_path / "run.json")):
            enter(tmp_path, fresh=fresh)


def test_run_file_that_is_nested_deep_is_one_line(tmp_path: Path) -> None:
    depth = 900  # json reads it, and a comparison of two frames a level would not end well
    nested = '{"a":' * depth + "1" + "}" * depth
    (tmp_path / "run.json").write_text(f'{{"identity": {nested}, "sessions": []}}')
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001.pt").touch()
    with refused(CheckpointError, str(tmp_path)):
        enter(tmp_path)


def test_every_start_is_recorded_and_another_recipe_refused(tmp_path: Path) -> None:
    enter(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000001.pt").touch()
    enter(tmp_path)
    assert len(read_run(tmp_path)["sessions"]) == 2
    with refused(CheckpointError, "these differ: run.seed"):
        enter(tmp_path, seed=2)


def test_a_folder_in_which_another_process_trains_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.runs.LOCK_WAIT_S", 0.0)
    run = tmp_path / "run"
    code = "import sys, pathlib; from trainer.runs import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        with refused(CheckpointError, f"{run}: another process is training in it"), locked(run):
            pass
        other.kill()
    with locked(run):  # a lock ends with its process
        enter(run)
        assert read_run(run)


def test_fresh_removes_what_runs_write_and_nothing_else(tmp_path: Path) -> None:
    enter(tmp_path)
    for name in ("metrics.jsonl", "encoder.safetensors", "encoder.json", "text.json", "notes.txt"):
        (tmp_path / name).touch()
    enter(tmp_path, seed=2, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json"]
    assert json.loads((tmp_path / "run.json").read_text())["identity"] == {"run": {"seed": 2}}


@pytest.mark.parametrize(
    "line", [b"{", b"5", b"[" * 100_000, b'{"loss": 1}', b'{"step": "1"}', b"\xff\xfe"]
)
def test_damaged_line_of_the_metrics_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with refused(CheckpointError, "metrics.jsonl: line 2"):
        read_metrics(tmp_path)
    with refused(CheckpointError, "metrics.jsonl: line 2"):
        Metrics(tmp_path, step=3)
