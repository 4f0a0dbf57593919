"""Everything that should be known of a GPU, in at most ten minutes.

    python -m benchmarks.gpu --out benchmarks/results/gpu.json [--shapes sd15,sdxl,flux,training]
    python -m benchmarks.gpu --out FILE --tiny          # the same on a CPU, with tiny models

Models of the real architectures get random weights, so nothing is downloaded. A shape is measured
with the stock pipeline at batch 1 and at its best batch, and with the renderer of this project,
exact and fast; the limit is what a large product of matrices reaches in the same run. What does not
fit into the time is left out, and the file says so.
"""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import machine
from benchmarks.gpu import rendering, training
from benchmarks.gpu.architectures import SHAPES, write, write_tiny
from manifests.foundation.errors import SynthError

EXPECTED_S = {"sd15": 200, "sdxl": 150, "flux": 200, "training": 180}
"""How long a shape may take, by estimate: one that might not fit into what is left is skipped."""


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--shapes", default="sd15,training,sdxl,flux", show_default=True)
@click.option("--seconds", default=570.0, show_default=True, help="Time for all of it.")
@click.option("--tiny", is_flag=True, help="Tiny models, on a CPU as well.")
def main(out: Path, shapes: str, seconds: float, tiny: bool) -> None:
    start = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not tiny:
        raise click.UsageError("there is no CUDA device here; --tiny runs it on a CPU")
    limit = rendering.matmul_tflops(device)
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "device": _device(device),
        "matmul_tflops": round(limit, 2),
    }
    for name in shapes.split(","):
        left = seconds - (time.monotonic() - start)
        if not tiny and left < EXPECTED_S[name]:
            results[name] = f"skipped: {left:.0f} s were left"
        else:
            try:
                results[name] = _measure(name, device, limit, tiny)
            except (torch.OutOfMemoryError, SynthError) as exc:
                results[name] = f"failed: {exc!s:.200}"
        # After every shape, so that a run that is cut off has left something.
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name], indent=1), flush=True)


def _measure(name: str, device: str, limit: float, tiny: bool) -> Any:
    scratch = Path(tempfile.mkdtemp())
    try:
        if name == "training":
            return training.measure(
                device=device,
                model="vit_tiny_patch16_224" if tiny else "vit_base_patch16_224",
                limit_tflops=limit,
                tiny=tiny,
            )
        shape = SHAPES[name]
        if tiny:
            write_tiny(scratch / "model")
        else:
            write(shape, scratch / "model", device)
        return [
            rendering.measure(
                scratch / "model",
                device=device,
                dtype="float32" if tiny else "bfloat16",
                size_px=32 if tiny else shape.size_px,
                steps=2 if tiny else steps,
                guidance=shape.guidance,
                batches=(1, 2) if tiny else shape.batches,
                limit_tflops=limit,
            )
            for steps in (shape.steps[:1] if tiny else shape.steps)
        ]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _device(device: str) -> str:
    """Name, memory, clocks and driver of the GPU."""
    if device == "cpu":
        return "cpu"
    fields = "name,memory.total,clocks.sm,clocks.max.sm,power.limit,driver_version"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
