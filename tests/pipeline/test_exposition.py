"""Metrics for Prometheus, and the dashboard that shows them."""

import json
import re
from pathlib import Path

from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

import synth
from tests.conftest import ROOT
from tests.sets import begin, commit, make_set

DASHBOARD = ROOT / "docker" / "grafana.json"
STATS = {
    **{"num_views": 4, "finished_at": 9.0, "total_s": 2.0, "render_s": 2.0, "host": "node-1"},
    **{"wait_s": 0.5, "encode_s": 1.5, "commit_s": 0.25, "storage_repeats": 3, "errors": ["a"]},
}


def exposed(folder: Path, url: Path) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Values by name and labels, parsed as Prometheus does."""
    file = folder / "synth.prom"
    result = CliRunner().invoke(synth.main, ["status", str(url), "--textfile", str(file)])
    assert result.exit_code == 0, result.output
    assert [path.name for path in folder.glob("synth.prom*")] == ["synth.prom"]
    return {
        family.name: {frozenset(s.labels.items()): s.value for s in family.samples}
        for family in text_string_to_metric_families(file.read_text())
    }


def open_set(url: Path) -> None:
    """Two shards, one of which is made, with a failed view and statistics."""
    shards = begin(url)
    commit(shards, 0)
    shards.store.create(shards.layout.stats(0), json.dumps(STATS).encode())
    shards.add_note(1, json.dumps({"shard": 1, "errors": ["a", "b", "c"]}).encode())


def test_metrics_are_those_of_status(tmp_path: Path) -> None:
    url = tmp_path / "set"
    open_set(url)
    metrics = exposed(tmp_path, url)

    def value(name: str, **labels: str) -> float:
        return metrics[name][frozenset({"set": str(url), **labels}.items())]

    assert value("synth_shards", state="planned") == 2
    assert value("synth_shards", state="committed") == 1
    assert value("synth_shards", state="given_up") == 1
    assert value("synth_views", state="planned") == 6
    assert value("synth_views", state="made") == 4
    assert value("synth_views", state="good") == 3
    assert value("synth_failed_views", reason="blank") == 1
    assert value("synth_host_views_per_second", host="node-1") == 2
    assert value("synth_views_per_second") == 2
    assert value("synth_worker_seconds", phase="wait") == 0.5
    assert value("synth_worker_seconds", phase="encode") == 1.5
    assert value("synth_worker_seconds", phase="commit") == 0.25
    assert value("synth_failed_attempts") == 1
    assert value("synth_storage_repeats") == 3
    assert value("synth_sealed") == 0
    make_set(tmp_path / "sealed")
    assert exposed(tmp_path, tmp_path / "sealed")["synth_sealed"].popitem()[1] == 1


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_are_exposed(
    tmp_path: Path,
) -> None:
    open_set(tmp_path / "set")
    metrics = exposed(tmp_path, tmp_path / "set")
    labels = {name: {key for key, _ in next(iter(metrics[name]))} for name in metrics}
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    used = set()
    for target in targets:
        if "ray_synth" in target["expr"]:
            continue  # of the cluster's endpoint: tests/servers/test_ray_job.py
        for name, selectors in re.findall(r"(synth_\w+)\{([^}]*)\}", target["expr"]):
            used.add(name)
            assert {*re.findall(r"(\w+)=", selectors)} <= labels[name], target
        names = re.findall(r"synth_\w+", target["expr"])
        assert {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])} <= labels[names[0]], target
    # Whether a set is sealed has no curve of its own.
    assert used == {*metrics} - {"synth_sealed"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len({*ids})


def test_a_textfile_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    make_set(tmp_path / "set")
    file = tmp_path / "none" / "synth.prom"
    result = CliRunner().invoke(
        synth.main, ["status", str(tmp_path / "set"), "--textfile", str(file)]
    )
    assert result.exit_code == 1
    assert f"--textfile {file}: cannot be written" in result.output
