"""Damaged captions, recipes and sets: the short form of `python -m benchmarks.fuzz`."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz

pytestmark = pytest.mark.slow


def run_cases(folder: Path, count: int) -> fuzz.Findings:
    cases = fuzz.Fuzz(folder, seed=1)
    for number in range(count):
        cases.run(number)
    return cases.findings


def test_five_hundred_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    findings = run_cases(tmp_path, 500)
    assert findings.faults == []
    assert sum(findings.counts.values()) > 450
    kinds = {name.partition(":")[0] for name in findings.counts}
    assert {"captions.csv", "captions.parquet", "data", "manifests", "recipe.toml"} <= kinds
    assert fuzz.peak_bytes() < fuzz.MAX_BYTES


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
        assert faults
        assert all(words in fault for fault in faults)
    monkeypatch.setattr(fuzz, "LIMIT_S", 5.0)
    monkeypatch.setattr(fuzz, "validate_shard_set", lambda shards: [])
    (tmp_path / "c").mkdir()
    faults = run_cases(tmp_path / "c", 40).faults
    assert any("synth verify finds nothing" in fault for fault in faults)
