"""The laws of pipeline.execution, for every entry of the table."""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import IdentityError
from manifests.foundation.errors import ConfigError
from pipeline.config import load_config
from pipeline.errors import ExecutorError, RendererError
from pipeline.execution import EXECUTORS
from pipeline.generating import Generation, begin, finish, run
from pipeline.retrying import ShardFailure
from pipeline.shard_report import ShardReport
from pipeline.views import Resources
from tests.cluster import cluster as cluster
from tests.cluster import two_nodes
from tests.running import pixel_files, start, synth, write_captions

pytestmark = pytest.mark.slow

CAPTIONS = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture(params=list(EXECUTORS))
def execution(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "ray":
        address = request.getfixturevalue("cluster")
        return {"executor": "ray", "ray_address": address, "workers": 2}
    return {"executor": request.param}


def begin_set(
    folder: Path, execution: dict[str, Any], *, subjects_per_shard: int = 1, **more: Any
) -> Generation:
    """Begin a set of five captions, whose renderer fails as `trouble` asks it to."""
    (folder / "trouble").mkdir(exist_ok=True, parents=True)
    flags = {
        "prompts.file": str(write_captions(folder, CAPTIONS)),
        "views.per_subject": 2,
        "shards.subjects": subjects_per_shard,
        "renderer.name": "tests.renderers:Faulty",
        "renderer.trouble": str(folder / "trouble"),
        **{f"execution.{key}": value for key, value in execution.items()},
    }
    return begin(load_config(recipe=None, overrides=[], flags=flags), str(folder / "set"), **more)


def trouble(folder: Path, kind: str, captions: Sequence[str]) -> None:
    """Let these captions fail in one of the ways that `tests.renderers.Faulty` knows."""
    (folder / "trouble").mkdir(exist_ok=True)
    (folder / "trouble" / kind).write_text("\n".join(captions))


def outcomes(generation: Generation) -> tuple[list[int], list[ShardFailure]]:
    """Run to the end: the shards that were made, ascending, and those that were given up."""
    made, given_up = [], []
    for outcome in run(generation):
        if isinstance(outcome, ShardReport):
            made.append(outcome.shard)
        else:
            given_up.append(outcome)
    return sorted(made), given_up


def test_every_shard_is_reported_once(execution: dict[str, Any], tmp_path: Path) -> None:
    generation = begin_set(tmp_path, execution)
    assert outcomes(generation) == ([0, 1, 2, 3, 4], [])
    assert finish(generation, seal_incomplete=False) is not None


def test_how_far_a_shard_is_is_told_before_it_is_made(
    execution: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.execution import inline
    from pipeline.execution.ray_executor import driver

    for module in (inline, driver):
        monkeypatch.setattr(module, "LOOK_EVERY_S", 0.1)
    trouble(tmp_path, "slow", CAPTIONS)  # half a second for each batch of four views
    generation = begin_set(tmp_path, execution, subjects_per_shard=5)
    counts: list[int] = []
    reports = [*run(generation, on_underway=lambda news: counts.extend(news.num_rendered.values()))]
    assert len(reports) == 1
    assert {4, 8} & {*counts}
    assert max(counts) <= 10


def test_files_do_not_depend_on_the_executor(execution: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "inline").mkdir()
    outcomes(begin_set(tmp_path, execution))
    outcomes(begin_set(tmp_path / "inline", {"executor": "inline"}))
    assert pixel_files(tmp_path / "set") == pixel_files(tmp_path / "inline" / "set")


def test_prompt_that_cannot_be_rendered_costs_its_row_only(
    execution: dict[str, Any], tmp_path: Path
) -> None:
    trouble(tmp_path, "raise", ["cat"])
    generation = begin_set(tmp_path, execution)
    assert outcomes(generation) == ([0, 1, 2, 3, 4], [])
    rows = generation.shards.manifest(2).rows
    assert [(row.status, row.reason) for row in rows] == [("failed", "render-error")] * 2
    report = json.loads((tmp_path / "set/stats/000002.json").read_text())
    assert report["errors"] == ["cannot render 'cat'"] * 2


def test_shard_that_fails_for_good_is_given_up_and_can_be_retried(
    execution: dict[str, Any], tmp_path: Path
) -> None:
    trouble(tmp_path, "memory", ["bee"])
    generation = begin_set(tmp_path, execution)
    made, (failure,) = outcomes(generation)
    assert made == [0, 2, 3, 4]
    assert failure.shard == 1
    assert len(failure.errors) == 3
    assert "smaller --batch-size" in failure.errors[-1]
    assert finish(generation, seal_incomplete=False) is None
    assert not begin_set(tmp_path, execution).todo

    (tmp_path / "trouble" / "memory").unlink()
    again = begin_set(tmp_path, execution, retry_failed=True)
    assert outcomes(again) == ([1], [])
    seal = finish(again, seal_incomplete=False)
    assert seal is not None
    assert [path.name for path in (tmp_path / "set/failed").iterdir()] == ["000001-000.json"]
    assert "failed/000001-000.json" in seal.files


def test_error_that_is_no_shards_own_ends_the_job(
    execution: dict[str, Any], tmp_path: Path
) -> None:
    """Workers with another batch size than the recipe's would render other pixels."""
    generation = begin_set(tmp_path, execution)
    settings = {**generation.job.settings}
    settings["renderer"] = {**settings["renderer"], "batch_size": 3}
    generation = replace(generation, job=replace(generation.job, settings=settings))
    with pytest.raises(IdentityError, match=r"would render other pixels.*batch_size") as raised:
        outcomes(generation)
    assert (f"(on {socket.gethostname()})" in str(raised.value)) == (execution["executor"] == "ray")
    assert not generation.shards.committed()


def test_bug_of_a_renderer_ends_the_job_and_names_it(
    execution: dict[str, Any], tmp_path: Path
) -> None:
    trouble(tmp_path, "bug", ["cat"])
    with pytest.raises(RendererError, match=r"renderer tests.renderers:Faulty, .*KeyError"):
        outcomes(begin_set(tmp_path, execution))


def test_worker_that_is_killed_is_replaced(cluster: str, tmp_path: Path) -> None:
    trouble(tmp_path, "die-once", ["dog"])
    ray = {"executor": "ray", "ray_address": cluster, "workers": 2}
    assert outcomes(begin_set(tmp_path, ray)) == ([0, 1, 2, 3, 4], [])
    assert not (tmp_path / "trouble" / "die-once").exists()


def test_the_last_shards_are_started_twice_if_they_are_slow(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.retrying.SLOW_S", 1.0)
    generation = begin_set(
        tmp_path, {"executor": "ray", "ray_address": cluster, "workers": 2}
    )  # which tries a view in this very process
    trouble(tmp_path, "hang-once", ["cat"])
    assert outcomes(generation) == ([0, 1, 2, 3, 4], [])
    assert not (tmp_path / "trouble" / "hang-once").exists()


def test_a_node_with_other_versions_is_named(cluster: str, tmp_path: Path) -> None:
    """The driver takes a package for one of another version; its workers come from the cluster."""
    (tmp_path / "pillow-0.0.1.dist-info").mkdir()
    (tmp_path / "pillow-0.0.1.dist-info" / "METADATA").write_text("Name: pillow\nVersion: 0.0.1\n")
    output = synth(
        *("generate", "--prompts", write_captions(tmp_path), "--out", tmp_path / "set"),
        *("--renderer", "tests.renderers:Stripes", "--views-per-subject", 2),
        *("--ray-address", cluster, "--workers", 2),
        first_on_path=tmp_path,
    )
    line = f"{socket.gethostname()}: pillow {version('pillow')} (0.0.1 where the job was started)"
    assert output.count(line) == 1


def test_a_node_that_joins_late_gets_work(tmp_path: Path) -> None:
    captions = write_captions(tmp_path, [f"thing {index}" for index in range(1000)])
    log = tmp_path / "rendered.txt"
    with two_nodes() as nodes:
        nodes.kill_second()
        driver = start(
            *("generate", "--prompts", captions, "--out", tmp_path / "set"),
            *("--renderer", "benchmarks.noise:Noise", "--set", "renderer.view_s=0.25"),
            *("--set", f"renderer.log={log}", "--views-per-subject", 2),
            *("--subjects-per-shard", 1, "--ray-address", nodes.address),
        )
        while driver.poll() is None and not [*(tmp_path / "set").glob("manifests/*.parquet")]:
            time.sleep(0.05)
        nodes.add_second()
        workers: set[str] = set()
        # There is work for minutes, and it is stopped when all workers have had some.
        while driver.poll() is None and len(workers) < 4:
            time.sleep(0.1)
            workers = {line.split()[1] for line in log.read_text().splitlines()}
            workers -= {str(driver.pid)}  # it has tried a view
        driver.terminate()
        output, _ = driver.communicate()
    assert len(workers) == 4, output


def test_workers_that_die_with_their_node_are_not_taken_for_workers_that_cannot_start(
    tmp_path: Path,
) -> None:
    opened = tmp_path / "trouble" / "opened"
    trouble(tmp_path, "opened", [])
    with two_nodes() as nodes:
        needs_three = ("--set", "renderer.threads=3")
        command = (
            *("generate", "--prompts", write_captions(tmp_path, CAPTIONS), "--out"),
            *(tmp_path / "set", "--renderer", "tests.renderers:SlowToOpen", "--set"),
            *(f"renderer.trouble={tmp_path / 'trouble'}", "--views-per-subject", 2),
            *("--subjects-per-shard", 1, "--ray-address", nodes.address),
        )
        driver = start(*command)
        while driver.poll() is None and not (tmp_path / "set" / "recipe.json").exists():
            time.sleep(0.02)
        trouble(tmp_path, "slow-open", [])  # the driver has opened its own
        before = len(opened.read_text())
        for num_opened in (4, 6, 8):  # two on each node, then two each time that one came back
            while driver.poll() is None and len(opened.read_text()) < before + num_opened:
                time.sleep(0.05)
            if num_opened < 8:
                nodes.kill_second()
                nodes.add_second()
        (tmp_path / "trouble" / "slow-open").unlink()
        output, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0, output
        driver = start(*(str(part).replace("/set", "/large") for part in command), *needs_three)
        output, _ = driver.communicate(timeout=300)
    assert "a worker needs 3 CPU, and the largest node has 2; add nodes or give --w" in output


@pytest.mark.parametrize("kind", ["die", "hang"])
def test_prompt_that_kills_or_hangs_every_worker_costs_its_row_only(
    cluster: str, tmp_path: Path, kind: str
) -> None:
    ray = {"executor": "ray", "ray_address": cluster, "workers": 2, "batch_deadline_s": 1.0}
    generation = begin_set(tmp_path, ray, subjects_per_shard=2)
    trouble(tmp_path, kind, ["dog"])
    assert outcomes(generation) == ([0, 1, 2], [])
    rows = generation.shards.manifest(1).rows
    assert [(row.text, row.status, row.reason) for row in rows] == [
        *[("cat", "ok", "")] * 2,
        *[("dog", "failed", "render-error")] * 2,
    ]
    errors = json.loads((tmp_path / "set/stats/000001.json").read_text())["errors"]
    assert len(errors) == 2
    assert "the worker died" in errors[0]
    undisturbed = begin_set(tmp_path / "again", {"executor": "inline"}, subjects_per_shard=2)
    (tmp_path / "trouble" / kind).unlink()
    outcomes(undisturbed)
    of_cat = [generation.shards.image(1, row) for row in rows[:2]]
    expected = undisturbed.shards
    assert of_cat == [expected.image(1, row) for row in expected.manifest(1).rows[:2]]


def test_last_try_is_not_starved_by_workers_that_wait_for_a_core(
    cluster: str, tmp_path: Path
) -> None:
    trouble(tmp_path, "memory", ["bee"])
    generation = begin_set(tmp_path, {"executor": "ray", "ray_address": cluster, "workers": 2})
    # Each worker needs three of the cluster's four cores: one runs, the other waits for room.
    generation = replace(generation, job=replace(generation.job, resources=Resources(threads=3)))
    made, (failure,) = outcomes(generation)
    assert made == [0, 2, 3, 4]
    assert failure.shard == 1


def test_workers_share_a_gpu_if_they_are_told_to(cluster: str, tmp_path: Path) -> None:
    generation = on_gpus(begin_set(tmp_path, {"ray_address": cluster, "workers_per_gpu": 3}), 1)
    num_workers, shares = gpus_of_workers(generation)
    # One GPU, three workers at once: with a whole GPU each, two of them would wait for ever.
    assert num_workers == [3, 3, 3]
    assert 0.3333 in shares
    assert 1 not in shares


def test_a_worker_has_several_gpus_if_its_model_needs_them(cluster: str, tmp_path: Path) -> None:
    begun = begin_set(tmp_path, {"ray_address": cluster})
    with pytest.raises(
        ExecutorError, match="a worker needs 2 GPU, and the largest node has 1; add"
    ):
        outcomes(on_gpus(begun, 2))
    shared = begin_set(tmp_path, {"ray_address": cluster, "workers_per_gpu": 2})
    with pytest.raises(ConfigError, match="workers_per_gpu 2: a worker of this set has 2 GPUs"):
        outcomes(on_gpus(shared, 2))
    assert gpus_of_workers(on_gpus(begun, 1)) == ([1], [1])


def on_gpus(generation: Generation, gpus: int) -> Generation:
    """The same work for workers that have GPUs."""
    resources = Resources(device_type="cuda", gpus=gpus)
    return replace(generation, job=replace(generation.job, resources=resources))


def gpus_of_workers(generation: Generation) -> tuple[list[int], list[float]]:
    """Run to the end: the number of workers at the start of each, and the GPUs asked for each."""
    from pipeline.execution.ray_executor import driver

    num_workers: list[int] = []
    shares: list[float] = []
    seat, remote = driver.Driver._seat, driver.ray.remote

    def count(of: Any) -> Any:
        num_workers.append(of._num_workers)
        return seat(of)

    def note_share(**options: Any) -> Any:
        if "num_gpus" in options:  # Ray makes actors of its own, too
            shares.append(options["num_gpus"])
        return remote(**options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.Driver, "_seat", count)
        patch.setattr(driver.ray, "remote", note_share)
        assert outcomes(generation) == ([0, 1, 2, 3, 4], [])
    return num_workers, shares


def test_shards_that_kill_every_worker_are_not_taken_for_workers_that_cannot_start(
    cluster: str, tmp_path: Path
) -> None:
    ray = {"executor": "ray", "ray_address": cluster, "workers": 2}
    generation = begin_set(tmp_path, ray)  # which tries a view in this very process
    trouble(tmp_path, "die", CAPTIONS[:3])
    assert outcomes(generation) == ([0, 1, 2, 3, 4], [])
    statuses = [generation.shards.manifest(shard).num_ok for shard in range(5)]
    assert statuses == [0, 0, 0, 2, 2]
