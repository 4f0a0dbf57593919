"""A set that is made at a URL while its drivers are killed, and copied from there and back."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from manifests.storage import open_store
from tests.running import pixel_files, start, synth, write_captions


def make_verify_and_copy(url: str, folder: Path, *, disturb: Callable[[], object]) -> None:
    """Compare the set with one that was made in a folder without a disturbance.

    Args:
        disturb: What else happens to the storage with each kill.
    """
    recipe = [
        *("--prompts", write_captions(folder), "--renderer", "benchmarks.noise:Noise"),
        *("--set", "renderer.view_s=0.03", "--views-per-subject", 4),
        *("--subjects-per-shard", 1, "--executor", "inline"),
    ]
    synth("generate", "--out", folder / "folder", *recipe)
    store, rng = open_store(url), random.Random(1)
    for num_made in (1, 3):
        driver = start("generate", "--out", url, *recipe)
        while len(store.list("manifests")) < num_made and driver.poll() is None:
            time.sleep(rng.uniform(0, 0.02))
        assert driver.poll() is None
        disturb()
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
    assert "24 views in 6 shards" in synth("generate", "--out", url, *recipe)
    assert "all right: 24 views in 6 shards" in synth("verify", url)
    synth("publish", url, folder / "copy")
    assert pixel_files(folder / "copy") == pixel_files(folder / "folder")
    synth("publish", folder / "folder", f"{url}-back")
    assert "all right: 24 views in 6 shards" in synth("verify", f"{url}-back")
