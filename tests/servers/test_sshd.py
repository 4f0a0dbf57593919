"""Sets on a server by SFTP, that of OpenSSH: the laws of stores, and a whole way through kills."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.storage.remote import BLOCK_BYTES
from tests.picture_sets import make_picture_set
from tests.running import start, synth
from tests.servers.sshd import Sshd, is_installed, sshd
from tests.servers.through_kills import make_verify_and_copy
from tests.ssh_clients import HOST, SftpLaws

pytestmark = [
    pytest.mark.slow,
    pytest.mark.servers,
    pytest.mark.skipif(not is_installed(), reason="needs root and Debian's openssh-server"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.mark.usefixtures("server")
class TestLaws(SftpLaws):
    large_bytes = BLOCK_BYTES + 1


def test_a_set_is_made_through_kills_and_lost_connections_verified_and_copied(
    server: Sshd, tmp_path: Path
) -> None:
    url = f"sftp://{HOST}{tmp_path}/made/set"
    make_verify_and_copy(url, tmp_path, disturb=server.end_connections)
    assert "nothing is left" in synth("doctor", f"{url}-new")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["set", "set-back"]
    # What the killed drivers left was swept when the set was sealed.
    assert not [*(tmp_path / "made").rglob(".tmp-*")]


def test_an_encoder_is_trained_from_a_set_and_into_a_run_on_the_server(
    server: Sshd, tmp_path: Path
) -> None:
    make_picture_set(tmp_path / "set")
    small = [
        *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", 8),
        *("--set", "objective.head_hidden=16", "--set", "objective.head_out=8", "--steps", 20),
        *("--set", "run.checkpoint_every=5", "--workers", 2),
    ]
    synth("train", tmp_path / "set", "--out", tmp_path / "run", *small)
    url = f"sftp://{HOST}{tmp_path}"
    with start("train", f"{url}/set", "--out", f"{url}/far", *small) as process:
        while not [*(tmp_path / "far").glob("checkpoints/*")] and process.poll() is None:
            time.sleep(0.02)
        assert server.end_connections() > 0
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    name = "encoder.safetensors"
    assert (tmp_path / "far" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
