"""Models from a hub: fetched and recorded by commit, or refused for the true reason.

A server on loopback answers as the hub does.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIND = """
import sys
from pipeline.errors import ModelError
from pipeline.models import find_model
try:
    model = find_model(sys.argv[1])
    print(model.name, model.revision, *model.files)
except ModelError as exc:
    sys.exit(str(exc))
"""


class Hub(BaseHTTPRequestHandler):
    """Holds one model, `owner/model`, which was called `owner/old` before."""

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if "/owner/gated" in path:
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        if "/owner/old" in path:
            return self._send(307, {"Location": self.path.replace("owner/old", "owner/model")})
        if "/owner/model" not in path:
            return self._send(404, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/"):
            if "/revision/" in path and not path.endswith((COMMIT, "/main")):
                return self._send(404, {"X-Error-Code": "RevisionNotFound"})
            if "/tree/" in path:
                return self._send(200, {}, json.dumps(self._tree()).encode())
            return self._send(200, {}, json.dumps({"id": "owner/model", "sha": COMMIT}).encode())
        data = (self.folder / path.partition(f"/resolve/{COMMIT}/")[2]).read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(200, headers, data, with_body=with_body)

    def _tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": file.relative_to(self.folder).as_posix(),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in sorted(self.folder.rglob("*"))
            if file.is_file()
        ]

    def _send(
        self, status: int, headers: dict[str, str], body: bytes = b"", *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub(tiny_models: dict[str, Path]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, tiny_models["sd"]))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def find(hub: str, model: str, cache: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own, because the library reads its address when it is imported.
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    env.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-c", FIND, model], env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("model", ["owner/model", "owner/old", f"owner/model@{COMMIT}"])
def test_a_model_of_the_hub_is_recorded_by_its_commit(
    model: str, hub: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    result = find(hub, model, tmp_path)
    assert result.returncode == 0, result.stderr
    name, revision, *files = result.stdout.split()
    assert (name, revision) == (model.partition("@")[0], COMMIT)
    assert "unet/diffusion_pytorch_model.safetensors" in files
    assert not any(file.startswith("safety_checker/") for file in files)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("owner/gated", "owner/gated: the hub gives it only to those who have accepted its terms;"),
        ("owner/none", "owner/none: the hub has no such model, or a private one; check the name"),
        ("owner/model@v9", "owner/model@v9: the hub has no such revision of this model"),
    ],
)
def test_a_model_that_the_hub_does_not_give_is_refused_for_the_true_reason(
    model: str, message: str, hub: str, tmp_path: Path
) -> None:
    result = find(hub, model, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
