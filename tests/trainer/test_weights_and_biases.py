"""Weights & Biases without a network: what is written, what is not, and what goes on."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manifests.foundation.errors import ConfigError
from tests.picture_sets import make_picture_set
from tests.running import environment
from tests.sets import refused
from trainer.weights_and_biases import require_package, run_id

OPTIONS = (
    *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", "4"),
    *("--set", "objective.head_hidden=8", "--set", "objective.head_out=4", "--steps", "6"),
    *("--set", "run.log_every=1", "--set", "run.wandb=nets"),
)
SECRET = "5ec2e7" * 6 + "5ec2"
FILE_HEADER, HEADER, BLOCK, LAST = 7, 7, 1 << 15, (1, 4)
"""Of the log: bytes of its header, of a piece's header, of a block, and kinds of a last piece."""


def test_a_run_has_one_id_until_it_is_begun_afresh() -> None:
    first = run_id("s3://bucket/run", "2026-01-01T00:00:00+00:00")
    assert first == run_id("s3://bucket/run", "2026-01-01T00:00:00+00:00")
    assert first != run_id("s3://bucket/run", "2026-01-01T00:00:01+00:00")
    assert first != run_id("s3://bucket/other", "2026-01-01T00:00:00+00:00")


def test_without_the_package_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.weights_and_biases.find_spec", lambda name: None)
    with refused(ConfigError, "run.wandb", "pip install 'synth-rep[wandb]'"):
        require_package()


def records(folder: Path) -> list[Any]:
    """What an offline run holds: messages of its protocol in a log of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("*.wandb")
    data, place, message, records = file.read_bytes(), FILE_HEADER, b"", []
    while place + HEADER <= len(data):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        end = place + HEADER + int.from_bytes(data[place + 4 : place + 6], "little")
        message += data[place + HEADER : end]
        if data[place + 6] in LAST:
            records.append(wandb_internal_pb2.Record.FromString(message))
            message = b""
        place = end
    return records


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the extra wandb")
def test_an_offline_run_holds_the_recipe_and_no_secret_and_goes_on_under_its_id(
    tmp_path: Path,
) -> None:
    make_picture_set(tmp_path / "set")
    own = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_API_KEY": SECRET}
    arguments = ["train", str(tmp_path / "set"), "--out", str(tmp_path / "run"), *OPTIONS]
    for extra in ((), ("--set", "run.log_every=2")):
        subprocess.run(
            [sys.executable, "-m", "synth", *arguments, *extra],
            env=environment() | own,
            check=True,
            timeout=200,
        )
        if not extra:  # as if the run had been stopped before its end
            (tmp_path / "run" / "encoder.json").unlink()
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert folders
    ids = {folder.name.rpartition("-")[2] for folder in folders}
    assert len(ids) == 1
    first = records(folders[0])
    config = {item.key: item.value_json for r in first for item in r.run.config.update}
    assert '"synth_small_conv"' in config["model"]
    losses = [
        item.value_json
        for record in first
        for item in record.history.item
        if "loss" in (item.key, *item.nested_key)
    ]
    assert len(losses) == 6
    for file in (tmp_path / "wandb").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert SECRET.encode() not in content, file
            assert str(tmp_path / "set").encode() not in content, file
