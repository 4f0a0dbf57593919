"""A renderer in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.foundation.errors import PluginError
from pipeline.errors import RendererError, RenderError, ShardError
from pipeline.isolation import RendererProcess
from pipeline.job import Job
from pipeline.testing.requests import requests_for
from pipeline.views import Resources
from tests.conftest import ROOT
from tests.renderers import Faulty, FaultyConfig
from tests.sets import refused

REQUESTS = requests_for(
    ["ant", "bee"],
    columns=Faulty(FaultyConfig()).columns(),
    variations=[{"guidance_scale": 1.0}],
    views_per_subject=2,
    kind="caption",
)


def job_of(folder: Path) -> Job:
    return Job(
        url="",
        renderer="tests.renderers:Faulty",
        settings={"renderer": {"trouble": str(folder)}},
        audits=(),
        resources=Resources(),
    )


def process_of(folder: Path, deadline_s: float = 30.0) -> RendererProcess:
    return RendererProcess(job_of(folder), batch_deadline_s=deadline_s)


def test_pixels_are_those_of_this_process_and_errors_come_as_they_are(tmp_path: Path) -> None:
    process = process_of(tmp_path)
    expected = Faulty(FaultyConfig()).render(REQUESTS)
    for one, other in zip(process.render(REQUESTS), expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    (tmp_path / "raise").write_text("bee")
    with refused(RenderError, "cannot render 'bee'"):
        process.render(REQUESTS)
    (tmp_path / "bug").write_text("bee")
    with pytest.raises(KeyError, match="colour"):
        process.render(REQUESTS)
    assert len(process.render(REQUESTS[:2])) == 2
    process.close()


def test_a_process_that_cannot_open_its_renderer_fails_no_request(tmp_path: Path) -> None:
    """Or every view of a shard would be a failed row, because of the machine."""
    job = replace(job_of(tmp_path), renderer="tests.renderers:NotThere")
    with refused(PluginError, "NotThere"):
        RendererProcess(job, batch_deadline_s=30.0).render(REQUESTS)
    dying = replace(job_of(tmp_path), renderer="tests.renderers:DiesWhenOpened")
    with refused(ShardError, "the process that renders died before it was ready"):
        RendererProcess(dying, batch_deadline_s=30.0).render(REQUESTS[:1])


def test_an_error_that_cannot_travel_comes_as_one_that_can(tmp_path: Path) -> None:
    process = process_of(tmp_path)
    (tmp_path / "local-error").write_text("bee")
    with refused(RendererError, "LocalError", "colour"):
        process.render(REQUESTS)
    process.close()


def test_a_request_that_kills_its_process_is_an_error_and_the_next_one_is_rendered(
    tmp_path: Path,
) -> None:
    process = process_of(tmp_path)
    (tmp_path / "die").write_text("bee")
    for batch in (REQUESTS, REQUESTS[2:3]):
        with refused(RenderError, batch[0].key, "the process that renders died"):
            process.render(batch)
    assert len(process.render(REQUESTS[:2])) == 2
    # What dies once may have died for another reason, so a single request is tried again.
    (tmp_path / "die").unlink()
    (tmp_path / "die-once").write_text("bee")
    assert len(process.render(REQUESTS[2:3])) == 1
    assert not (tmp_path / "die-once").exists()
    process.close()


def test_a_request_that_hangs_is_ended_at_its_deadline(tmp_path: Path) -> None:
    process = process_of(tmp_path, 0.5)
    assert len(process.render(REQUESTS)) == 4
    (tmp_path / "hang").write_text("bee")
    with refused(RenderError, "000000001_000", "not rendered within 0.5 s", "batch_deadline_s"):
        process.render(REQUESTS[2:3])
    assert len(process.render(REQUESTS[:2])) == 2
    process.close()


def test_the_process_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    """Also in the middle of a batch that never ends."""
    (tmp_path / "hang").write_text("bee")
    code = (
        "import multiprocessing, pathlib, sys, threading\n"
        "from tests.pipeline.test_isolation import REQUESTS, process_of\n"
        "if __name__ == '__main__':\n"
        "    process = process_of(pathlib.Path(sys.argv[1]))\n"
        "    process.render(REQUESTS[:2])\n"
        "    threading.Thread(target=process.render, args=[REQUESTS]).start()\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout
        child = int(worker.stdout.readline())
        time.sleep(0.2)
        assert _lives(child)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    end = time.monotonic() + 60
    while _lives(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
