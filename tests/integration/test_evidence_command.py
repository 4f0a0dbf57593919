"""The command line of the benchmarks in `benchmarks/evidence`."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.evidence.harness import Arm, Benchmark, command
from manifests.foundation.settings import check
from pipeline.config import load_config
from pipeline.renderers import renderer_class

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


@pytest.mark.parametrize("name", ["captions", "latents", "objectives", "programs"])
def test_every_arm_deals_its_variations_in_equal_shares(name: str) -> None:
    """Hours of other arms come before the last ones."""
    arms = import_module(f"benchmarks.evidence.{name}").ARMS
    for views in {str(arm.views): arm.views for arm in arms}.values():
        config = load_config(recipe=None, overrides=[], flags=dict(views))
        plugin = renderer_class(str(config.renderer["name"]))
        renderer = plugin(check(plugin.Config, config.renderer, origin="arm", table="renderer"))
        assert config.views.per_subject % len(renderer.variations()) == 0, views
