"""No command shows or stores a secret that a URL carries, however the URL is spelled."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from click.testing import CliRunner

from manifests.foundation.logs import redact_logs
from manifests.foundation.messages import hiding
from manifests.shard_set import ShardSet
from synth import main
from tests.object_store import s3_clients_of
from tests.running import write_captions
from tests.sets import make_set

pytestmark = pytest.mark.slow

CANARY = "Canary4711"
NOBODY = "127.0.0.1:1"
"""An address on this machine at which nothing answers."""
KEY = "000000000_000"

URLS = [
    f"https://{NOBODY}/x?sig={CANARY}",
    f"https://user:{CANARY}@{NOBODY}/x",
    f"HTTPS://{NOBODY}/x?sig={CANARY}",
    f"abfs://container@account/x?sig={CANARY}",
    f"az://container/x?sig={CANARY}",
    f"s3://bucket/x?X-Amz-Signature={CANARY}",
    f"s3://key:{CANARY}@bucket/x",
    f"S3://key:{CANARY}@bucket/x",
    f"s3:/key:{CANARY}@bucket/x",
    f"webhdfs://{NOBODY}/x?token={CANARY}",
    f"ftp://user:{CANARY}@{NOBODY}/x",
    f"sftp://user:{CANARY}@{NOBODY}/x",
    f"nowhere://key:{CANARY}@bucket/x#{CANARY}",
    f"memory://x?sig={CANARY}",
    f"simplecache::s3://key:{CANARY}@bucket/x",
    f"pipe:curl https://user:{CANARY}@{NOBODY}/x",
    f"s3://key:{CANARY} with a blank@bucket/x",
    f"s3://key:{CANARY}'\"<in quotes>@bucket/x",
    f"s3://key:{CANARY * 50}@bucket/x",
    f"//key:{CANARY}@bucket/x",
]

Arguments = Callable[[str, Path], list[str]]

COMMANDS: dict[str, Arguments] = {
    "status": lambda url, folder: ["status", url],
    "verify": lambda url, folder: ["verify", url],
    "show": lambda url, folder: ["show", url, KEY],
    "show --save": lambda url, folder: ["show", f"{folder}/set", KEY, "--save", url],
    "report": lambda url, folder: ["report", url, "--out", f"{folder}/r.html"],
    "report --out": lambda url, folder: ["report", f"{folder}/set", "--out", url],
    "publish from": lambda url, folder: ["publish", url, f"{folder}/copy"],
    "publish to": lambda url, folder: ["publish", f"{folder}/set", url],
    "generate --prompts": lambda url, folder: generate(folder, "--prompts", f"{url}.txt"),
    "generate --out": lambda url, folder: generate(folder, "--out", url),
    "generate --model": lambda url, folder: generate(folder, "--model", url),
    "generate --recipe": lambda url, folder: generate(folder, "--recipe", url),
    "generate --set": lambda url, folder: generate(folder, "--set", f"prompts.fiel={url}"),
    "generate --set audits": lambda url, folder: generate(
        folder, "--set", f"audits.use={json.dumps(url)}"
    ),
    "generate --share": lambda url, folder: generate(folder, "--share", url),
    "plan": lambda url, folder: ["plan", url],
    "plan --prompts": lambda url, folder: ["plan", "--prompts", f"{url}.txt"],
    "status --textfile": lambda url, folder: ["status", f"{folder}/set", "--textfile", url],
    "generate --set URL": lambda url, folder: generate(folder, "--set", url),
    "pictograms": lambda url, folder: ["pictograms", "--out", url],
    "demo": lambda url, folder: ["demo", "--out", url],
    "train": lambda url, folder: ["train", url, "--out", f"{folder}/run"],
    "train wds": lambda url, folder: ["train", f"wds:{url}", "--out", f"{folder}/run"],
    "train --out": lambda url, folder: ["train", f"{folder}/set", "--out", url],
    "train --recipe": lambda url, folder: [
        *("train", f"{folder}/set", "--out", f"{folder}/run", "--recipe", url)
    ],
    "evaluate": lambda url, folder: ["evaluate", url, "--on", f"imagefolder:{folder}/images"],
    "evaluate --on": lambda url, folder: ["evaluate", "pixels:8", "--on", url],
    "evaluate --on wds": lambda url, folder: ["evaluate", "pixels:8", "--on", f"wds:{url}"],
    "evaluate --on imagefolder": lambda url, folder: [
        *("evaluate", "pixels:8", "--on", f"imagefolder:{url}")
    ],
    "evaluate --with": lambda url, folder: [
        *("evaluate", "pixels:8", "--on", f"imagefolder:{folder}/images", "--with", url)
    ],
    "evaluate --suite": lambda url, folder: ["evaluate", "--suite", url],
    "export": lambda url, folder: ["export", url, "--as", "timm-hub", "--out", f"{folder}/e"],
    "export --as": lambda url, folder: ["export", f"{folder}/run", "--as", url, "--out", "e"],
    "export --out": lambda url, folder: [
        *("export", f"{folder}/run", "--as", "timm-hub", "--out", url)
    ],
    "doctor": lambda url, folder: ["doctor", url],
    "gc": lambda url, folder: ["gc", url],
    "delete": lambda url, folder: ["delete", url, "--yes"],
    "grow": lambda url, folder: ["grow", url, "--views-per-subject", "9", "--out", f"{folder}/g"],
    "grow --out": lambda url, folder: [
        *("grow", f"{folder}/set", "--views-per-subject", "9", "--out", url)
    ],
    "grow --prompts": lambda url, folder: [
        *("grow", f"{folder}/set", "--prompts", f"{url}.txt", "--out", f"{folder}/g")
    ],
    "grow --model": lambda url, folder: [
        *("grow", f"{folder}/set", "--views-per-subject", "9", "--out", f"{folder}/g"),
        *("--model", url),
    ],
    "merge": lambda url, folder: ["merge", f"{folder}/set", url, "--out", f"{folder}/m"],
    "merge --out": lambda url, folder: ["merge", f"{folder}/set", f"{folder}/set", "--out", url],
    "split": lambda url, folder: ["split", url, "--parts", "a=0.5,b=0.5", "--out", f"{folder}/p"],
    "split --parts": lambda url, folder: [
        *("split", f"{folder}/set", "--parts", url, "--out", f"{folder}/p")
    ],
    "split --out": lambda url, folder: [
        *("split", f"{folder}/set", "--parts", "a=0.5,b=0.5", "--out", url)
    ],
    "preview": lambda url, folder: [
        *("preview", "--prompts", f"{url}.txt", "--out", f"{folder}/p.png")
    ],
    "preview --out": lambda url, folder: [
        *("preview", "--prompts", f"{folder}/captions.txt", "--out", url)
    ],
    "steer": lambda url, folder: ["steer", url, "--out", f"{folder}/s"],
    "init": lambda url, folder: ["init", url],
    "wrong usage": lambda url, folder: ["verify", f"{folder}/set", url],
    "no command": lambda url, folder: [url],
}


def generate(folder: Path, option: str, value: str) -> list[str]:
    """Arguments that make a small set; of an option that comes twice, the last one wins."""
    small = ["--prompts", f"{folder}/captions.txt", "--out", f"{folder}/new"]
    small += ["--executor", "inline", "--views-per-subject", "1", "--steps", "1"]
    return ["generate", *small, "--batch-size", "1", option, value]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A set, captions and a labelled set; clients of object stores that give up at once."""
    make_set(tmp_path / "set")
    write_captions(tmp_path)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            (tmp_path / "images" / split / name / "1.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)  # a URL that is mistaken for a relative path would be made here
    for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    quick = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", quick)
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    with s3_clients_of(f"http://{NOBODY}"):
        yield tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_output_log_or_file_holds_a_secret(
    command: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for url in URLS:
        arguments = COMMANDS[command](url, folder)
        for options in ([], ["--debug"]):
            result = CliRunner().invoke(main, [*options, *arguments])
            assert result.exit_code in (1, 2), (url, result.output)
            assert CANARY not in result.output, (url, result.output)
            # `doctor` prints a table of what it has tried.
            if not options and result.exit_code == 1 and command != "doctor":
                assert "Traceback" not in result.output, url
                assert result.output.startswith("Error: "), (url, result.output)
                assert len(result.output.splitlines()) == 1, (url, result.output)
    assert CANARY not in caplog.text
    for path in folder.rglob("*"):
        assert CANARY not in str(path)
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


class _Quiet(SimpleHTTPRequestHandler):
    """Prints no line for each request, which would show the secret itself."""

    def log_message(self, *args: object) -> None:
        pass


def test_a_set_from_captions_behind_a_secret_does_not_hold_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        url = f"http://user:{CANARY}@{host}/captions.txt?sig={CANARY}&as=.txt"
        commands = [
            generate(folder, "--prompts", url),
            ["report", f"{folder}/new", "--out", f"{folder}/r.html"],
            ["show", f"{folder}/new", KEY],
            ["verify", f"{folder}/new"],
            ["publish", f"{folder}/new", f"{folder}/copy"],
        ]
        for arguments in commands:
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output
            assert CANARY not in result.output
        server.shutdown()
    assert CANARY not in caplog.text
    recipe = (folder / "new/recipe.json").read_text()
    assert f"http://{host}/captions.txt" in recipe
    for path in folder.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    for shard in ShardSet.open(f"{folder}/new").committed():
        rows = ShardSet.open(f"{folder}/new").manifest(shard).rows
        assert CANARY not in repr(rows)  # Parquet may be compressed


def test_a_log_record_is_redacted_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    log = logging.getLogger("of.another.library")
    try:
        raise ValueError(f"cannot open s3://key:{CANARY}@bucket/x")
    except ValueError:
        log.exception("GET %s failed after %d tries", f"https://host/x?sig={CANARY}", 3)
    assert "GET https://host/x failed after 3 tries" in caplog.text
    assert "ValueError: cannot open s3://bucket/x" in caplog.text
    assert CANARY not in caplog.text


def test_pieces_of_a_url_that_a_library_shows_are_hidden_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redact_logs()
    with hiding([f"--out=s3://key:{CANARY}/@bucket/x?a=1&sig={CANARY}%2B"]):
        logging.getLogger("botocore").warning("invalid bucket name 'key:%s/@bucket'", CANARY)
        logging.getLogger("aiohttp").warning("query %s", {"sig": f"{CANARY}+"})
    assert "invalid bucket name" in caplog.text
    assert "query" in caplog.text
    assert f"'key:{CANARY}/" not in caplog.text
    assert f"{CANARY}+" not in caplog.text
