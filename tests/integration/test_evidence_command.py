"""The command line of the benchmarks in `benchmarks/evidence`."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.evidence.harness import Arm, Benchmark, command

ARMS = [
    Arm(table="programs", label="raw pixels", encoder="pixels:16"),
    Arm(table="1,000 programs, mixed", label="raw pixels, smaller", encoder="pixels:8"),
]


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ([], ["programs", "1,000 programs, mixed"]),
        (["--table", "1,000 programs, mixed"], ["1,000 programs, mixed"]),
    ],
)
def test_every_table_runs_unless_some_are_named(
    tmp_path: Path, flags: list[str], shown: list[str]
) -> None:
    tables: list[str] = []

    def show(benchmark: Benchmark, arms: Sequence[Arm], seeds: Sequence[int]) -> str:
        tables.extend(arm.table for arm in arms)
        return ""

    main = command(ARMS, (), tmp_path / "results.json", show=show, help=None)
    result = CliRunner().invoke(main, ["--work", str(tmp_path), "--seeds", "0", *flags])
    assert result.exit_code == 0, result.output
    assert tables == shown
