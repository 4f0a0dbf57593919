"""Damaged captions, recipes and sets: the short form of `python -m benchmarks.fuzz`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz
from tests.conftest import ROOT
from tests.running import environment

pytestmark = pytest.mark.slow


def run_cases(folder: Path, count: int) -> fuzz.Findings:
    cases = fuzz.Fuzz(folder, seed=1)
    for number in range(count):
        cases.run(number)
    return cases.findings


def test_five_hundred_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    """Memory is that of the process itself, not of the large one that starts it."""
    large = bytearray(3 << 29)
    out = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "500", "--seed", "1"]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert len(large) > fuzz.MAX_BYTES
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["faults"] == 0
    assert sum(result["ends"].values()) > 450
    kinds = {name.partition(":")[0] for name in result["ends"]}
    assert {"captions.csv", "captions.parquet", "data", "manifests", "recipe.toml"} <= kinds


def test_what_must_not_happen_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: str) -> Iterator[None]:
        raise KeyError("caption")

    def hang(path: str) -> Iterator[None]:
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(fuzz, "LIMIT_S", 0.2)
    for name, reader, words in (("a", crash, "KeyError"), ("b", hang, "not done within 0.2 s")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(fuzz, "read_prompts", reader)
        faults = run_cases(tmp_path / name, 8).faults
        assert any(words in fault for fault in faults)
    monkeypatch.setattr(fuzz, "LIMIT_S", 5.0)
    monkeypatch.setattr(fuzz, "read_prompts", lambda path: [])
    monkeypatch.setattr(fuzz, "validate_shard_set", lambda shards: [])
    (tmp_path / "c").mkdir()
    faults = run_cases(tmp_path / "c", 40).faults
    assert any("synth verify finds nothing" in fault for fault in faults)
