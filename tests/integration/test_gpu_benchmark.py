"""The benchmark for GPUs takes its whole way on a CPU, so that it works on the day of a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_gpu_benchmark_runs_to_its_end_with_tiny_models(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out", str(out)]
    command += ["--shapes", "sd15,training"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    (rendering,) = results["sd15"]
    for speed in ("exact", "fast"):
        assert rendering[f"{speed}, laws"] == {
            "the same again": True,
            "the same beside others": True,
        }
    rates = [value for value in rendering.values() if isinstance(value, dict)]
    measured = [rate for rate in rates if "images_per_s" in rate]
    assert len(measured) == 4
    assert all(rate["images_per_s"] > 0 and rate["share_of_limit"] > 0 for rate in measured)
    assert rendering["fast against exact"]["levels"] <= 1
    training = results["training"]
    assert len(training) == 6
    assert all(way["images_per_s"] > 0 and way["worked_out_gb"] > 0 for way in training.values())
    assert training["bf16"]["ours / bare"] > 0


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no CUDA device here; --tiny runs it on a CPU" in done.stderr
