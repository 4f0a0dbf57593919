"""A job that is stopped or killed leaves a set that goes on, and no scratch that stays."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.foundation.scratch import PREFIX
from manifests.shard_set import ShardSet
from pipeline.stopping import GRACE_S, INTERRUPT_GRACE_S
from tests.cluster import cluster as cluster
from tests.process_tree import descendants
from tests.running import environment, pixel_files, start, synth, write_captions

pytestmark = pytest.mark.slow

CAPTIONS = [f"a fox on hill {number}" for number in range(12)]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def generate(tmp_path: Path) -> Callable[..., list[object]]:
    """The command that makes a set of twelve shards, in half a second or more for each."""
    (tmp_path / "trouble").mkdir()
    (tmp_path / "trouble" / "slow").write_text("\n".join(CAPTIONS))
    captions = write_captions(tmp_path, CAPTIONS)

    def arguments(url: Path, *more: object) -> list[object]:
        return [
            *(
                "generate",
                "--prompts",
                captions,
                "--out",
                url,
                "--renderer",
                "tests.renderers:Faulty",
            ),
            *("--set", f"renderer.trouble={tmp_path / 'trouble'}", "--views-per-subject", 4),
            *("--subjects-per-shard", 1, *(more or ("--executor", "inline"))),
        ]

    return arguments


def left_in(scratch: Path) -> list[Path]:
    return [*scratch.glob(f"{PREFIX}*")]


def until_made(url: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 180
    while len(list(url.glob("manifests/*.parquet"))) < count:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate()[0])
        time.sleep(0.01)


@pytest.fixture
def whole(tmp_path: Path, generate: Callable[..., list[object]]) -> dict[str, bytes]:
    synth(*generate(tmp_path / "whole"))
    return pixel_files(tmp_path / "whole")


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_leaves_whole_shards_and_no_scratch(
    kind: signal.Signals,
    generate: Callable[..., list[object]],
    whole: dict[str, bytes],
    scratch: Path,
    tmp_path: Path,
) -> None:
    url = tmp_path / "set"
    process = start(*generate(url))
    until_made(url, 3, process)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=GRACE_S + 30)
    assert process.returncode == (130 if kind == signal.SIGINT else 143), output
    assert "Traceback" not in output
    assert left_in(scratch) == []
    made = len(list(url.glob("manifests/*.parquet")))
    assert 3 <= made < 12
    # The shard that is committed while the job ends may not be counted in its last words.
    name = "Ctrl-C" if kind == signal.SIGINT else kind.name
    assert output.splitlines()[-1] in {
        f"{url}: stopped by {name}, {kept} of 12 shards are kept; the same command resumes"
        for kept in range(made - 2, made + 1)
    }
    synth(*generate(url))
    assert pixel_files(url) == whole


def test_a_renderer_that_hangs_does_not_keep_a_stopped_job(
    generate: Callable[..., list[object]], scratch: Path, tmp_path: Path
) -> None:
    url = tmp_path / "set"
    process = start(*generate(url))
    until_made(url, 1, process)
    (tmp_path / "trouble" / "hang").write_text("\n".join(CAPTIONS))
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=GRACE_S + 30)
    assert process.returncode == 143
    (tmp_path / "trouble" / "hang").unlink()
    # What the killed process left in scratch is removed by the next one.
    synth(*generate(url))
    assert left_in(scratch) == []


@pytest.fixture
def hanging(
    generate: Callable[..., list[object]], tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Start a job, in a session of its own as a shell does, whose batches never end."""

    def start_it(
        url: Path, *more: object, first_on_path: Path | None = None
    ) -> subprocess.Popen[str]:
        process = start(*generate(url, *more), new_session=True, first_on_path=first_on_path)
        until_made(url, 1, process)
        (tmp_path / "trouble" / "hang").write_text("\n".join(CAPTIONS))
        time.sleep(1.5)
        return process

    return start_it


@pytest.mark.parametrize("more", [(), ("--workers", 2)], ids=["inline", "ray"])
def test_ctrl_c_drops_the_batch_at_hand_and_leaves_no_process(
    more: tuple[object, ...],
    hanging: Callable[..., subprocess.Popen[str]],
    generate: Callable[..., list[object]],
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # paths of its sockets must be short
    url = tmp_path / "set"
    process = hanging(url, *more)
    started = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells all processes in its foreground
    # A batch never ends: a process that waited for it would run into the time-out.
    output, _ = process.communicate(timeout=INTERRUPT_GRACE_S + 25)
    assert process.returncode == 130, output
    assert f"{url}: stopped by Ctrl-C, " in output
    assert "the same command resumes" in output
    assert "Traceback" not in output
    end = time.monotonic() + 30
    while alive := [pid for pid in started if is_alive(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.1)
    (tmp_path / "trouble" / "hang").unlink()
    assert "12 shards" in synth(*generate(url, *more))
    assert left_in(scratch) == []


def test_a_second_ctrl_c_ends_at_once(
    hanging: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    # The grace of the first is so long that a busy machine cannot spend it before the second comes.
    (tmp_path / "sitecustomize.py").write_text(
        "from pipeline import stopping\nstopping.INTERRUPT_GRACE_S = 600.0\n"
    )
    process = hanging(tmp_path / "set", first_on_path=tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "Ctrl-C again ends at once" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by" not in output  # the last words of a process that had its whole grace


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_batch_that_hangs_ends_a_job_of_one_process_with_one_line(
    generate: Callable[..., list[object]], scratch: Path, tmp_path: Path
) -> None:
    url = tmp_path / "set"
    inline = ("--executor", "inline", "--set", "execution.batch_deadline_s=10")
    process = start(*generate(url, *inline))
    until_made(url, 1, process)
    (tmp_path / "trouble" / "hang").write_text(CAPTIONS[8])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        "000000008_000 to 000000008_003: not rendered within 10 s, so this process ends" in output
    )
    assert "Traceback" not in output
    assert len(list(url.glob("manifests/*.parquet"))) in (7, 8)


def test_a_prompt_that_ends_a_job_of_one_process_is_a_failed_row_of_the_next(
    generate: Callable[..., list[object]],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = tmp_path / "set"
    process = start(*generate(url))
    until_made(url, 1, process)
    (tmp_path / "trouble" / "die").write_text(CAPTIONS[8])
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert "44 views in 12 shards, 4 failed" in synth(*generate(url))
    files = pixel_files(url)
    assert [path for path in whole if files[path] != whole[path]] == [
        "data/000008.tar",
        "manifests/000008.parquet",
    ]
    statuses = [row.reason for row in ShardSet.open(str(url)).manifest(8).rows]
    assert statuses == ["render-error"] * 4
    assert [*(tmp_path / "cache").glob("synth/in-flight/*/*.jsonl")] == []


def test_a_prompt_that_kills_the_process_that_tries_it_costs_its_row_only(
    generate: Callable[..., list[object]],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = tmp_path / "set"
    (tmp_path / "trouble" / "die").write_text(CAPTIONS[0])
    synth(*generate(url), status=-signal.SIGKILL)
    assert not url.exists()
    synth(*generate(url), status=-signal.SIGKILL)  # tries another subject, and then makes all
    assert "44 views in 12 shards, 4 failed" in synth(*generate(url))
    files = pixel_files(url)
    assert [path for path in whole if files[path] != whole[path]] == [
        "data/000000.tar",
        "manifests/000000.parquet",
    ]
    assert [*(tmp_path / "cache").glob("synth/in-flight/*/*.jsonl")] == []


def test_a_renderer_that_kills_its_process_with_all_that_is_tried_is_named(
    generate: Callable[..., list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_captions(tmp_path, CAPTIONS[:1])
    (tmp_path / "trouble" / "die").write_text(CAPTIONS[0])
    for _ in range(2):  # it may have been mended since
        synth(*generate(tmp_path / "set"), status=-signal.SIGKILL)
        output = synth(*generate(tmp_path / "set"), status=1)
        assert "Faulty: killed its process with each of 1 subjects that were tried" in output


def test_a_trial_that_hangs_is_ended_and_the_same_command_goes_on(
    generate: Callable[..., list[object]], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    inline = ("--executor", "inline", "--set", "execution.batch_deadline_s=1")
    (tmp_path / "trouble" / "hang-once").write_text(CAPTIONS[0])
    output = synth(*generate(url, *inline), status=1)
    assert "000000000_000: not rendered within 10 s, so this process ends" in output
    synth(*generate(url, *inline))
    assert pixel_files(url) == whole


def test_a_call_that_holds_the_interpreter_is_ended_too(tmp_path: Path) -> None:
    code = (
        "import re; from pipeline import deadline; deadline.BACKSTOP_S = 0.5\n"
        "with deadline.BatchDeadline(1.0).watching('it'): re.match('(a+)+b', 'a' * 40)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60)
    assert done.returncode == 1


def test_scratch_of_a_killed_job_is_swept_and_that_of_a_living_one_is_not(
    generate: Callable[..., list[object]], scratch: Path, tmp_path: Path
) -> None:
    dead, alive = scratch / f"{PREFIX}dead", scratch / f"{PREFIX}alive"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / "shard.tar").write_bytes(b"half")
    with (alive / ".lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        synth(*generate(tmp_path / "set"))
    assert left_in(scratch) == [alive]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_driver_of_ray(
    kind: signal.Signals,
    generate: Callable[..., list[object]],
    whole: dict[str, bytes],
    cluster: str,
    tmp_path: Path,
) -> None:
    url = tmp_path / "set"
    ray = ("--ray-address", cluster, "--workers", 2)
    process = start(*generate(url, *ray))
    until_made(url, 3, process)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=GRACE_S + 30)
    assert process.returncode == (130 if kind == signal.SIGINT else 143), output
    name = "Ctrl-C" if kind == signal.SIGINT else "SIGTERM"
    assert f"{url}: stopped by {name}, " in output
    assert output.endswith(" of 12 shards are kept; the same command resumes\n")
    synth(*generate(url, *ray))
    assert pixel_files(url) == whole


def test_shares_make_a_set_together_and_the_last_one_seals_it(
    generate: Callable[..., list[object]], whole: dict[str, bytes], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    shares = [start(*generate(url, "--executor", "inline", "--share", f"{k}/3")) for k in (1, 2, 3)]
    outputs = [process.communicate(timeout=300)[0] for process in shares]
    assert [process.returncode for process in shares] == [0, 0, 0], outputs
    assert any("48 views in 12 shards" in output for output in outputs)
    assert pixel_files(url) == whole
    assert "all right: 48 views in 12 shards" in synth("verify", url)


def test_a_share_alone_leaves_the_others(
    generate: Callable[..., list[object]], tmp_path: Path
) -> None:
    url = tmp_path / "set"
    output = synth(*generate(url, "--executor", "inline", "--share", "2/4"))
    assert f"{url}: share 2/4 is made; left to others: 9 shards" in output
    assert sorted(path.stem for path in url.glob("manifests/*")) == ["000001", "000005", "000009"]


@pytest.mark.parametrize("share", ["0/3", "4/3", "1/0", "a/3", "1", "-1/3"])
def test_a_share_that_is_none_is_refused(share: str, tmp_path: Path) -> None:
    arguments = ("generate", "--out", tmp_path / "set", "--share", share)
    assert f"share {share}" in synth(*arguments, status=1).replace("'", "")
