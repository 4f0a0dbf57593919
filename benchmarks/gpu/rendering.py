"""Images per second of a shape: the stock pipeline, and this renderer, exact and fast."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.energy import EnergyCounter
from manifests.plan import ViewRequest
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.testing.requests import requests_for
from pipeline.views import RenderedView

CAPTION = "a red fox that stands beside a tree in the evening"


def synchronise(device: str) -> None:
    """Wait for what was sent to the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def matmul_tflops(device: str) -> float:
    """Teraflops of a large bfloat16 product of matrices: what the device can reach at all."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def measure(
    folder: Path,
    *,
    device: str,
    dtype: str,
    size_px: int,
    steps: int,
    guidance: float,
    batches: Sequence[int],
    limit_tflops: float,
) -> dict[str, Any]:
    """Rates of one setting.

    Args:
        folder: A pipeline of diffusers.
        batches: Sizes that the stock pipeline is tried with.
        limit_tflops: What `matmul_tflops` gave.
    """
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
    pipe.set_progress_bar_config(disable=True)
    stock = partial(_stock, pipe, guidance, size_px)
    # What this renderer sets for the process when it loads a model; here as torch has it.
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = True
    flops = [_flops(partial(stock, 1, n)) for n in (1, 2)]
    tflop_per_image = (flops[0] + (steps - 1) * (flops[1] - flops[0])) / 1e12
    results: dict[str, Any] = {
        "steps": steps,
        "size_px": size_px,
        "guidance": guidance,
        "tflop_per_image": round(tflop_per_image, 3),
        "limit_images_per_s": round(limit_tflops / tflop_per_image, 3),
    }
    stock_rates = {}
    for batch in batches:
        stock(batch, 2)
        stock_rates[batch] = _rate(partial(stock, batch, steps), batch, device)
        results[f"stock, batch {batch}"] = stock_rates[batch]
    best = max(stock_rates, key=lambda batch: stock_rates[batch]["images_per_s"])
    del pipe, stock
    views: dict[str, list[RenderedView]] = {}
    arms: dict[str, dict[str, Any]] = {"exact": {}, "fast": {"speed": "fast"}}
    if device == "cuda":
        arms["offloaded"] = {"offload": True}
    for speed, options in arms.items():
        renderer = TextToImage(
            TextToImageConfig(
                model=str(folder),
                steps=steps,
                guidance=(guidance,),
                size_px=size_px,
                dtype=dtype,
                device=device,
                batch_size=best,
                **options,
            )
        )
        requests = _requests(renderer, best)
        start = time.perf_counter()
        first = renderer.render(requests)
        results[f"{speed}, first call, s"] = round(time.perf_counter() - start, 2)
        results[f"{speed}, batch {best}"] = _rate(partial(renderer.render, requests), best, device)
        views[speed] = first
        results[f"{speed}, laws"] = {
            "the same again": _equal(first, renderer.render(requests)),
            "the same beside others": _equal(first[:1], renderer.render(_crowd(requests))[:1]),
        }
        renderer.release()
    for speed in [*arms][1:]:
        results[f"{speed} against exact"] = _difference(views["exact"], views[speed])
    results["exact against the best stock call"] = round(
        results[f"exact, batch {best}"]["images_per_s"] / stock_rates[best]["images_per_s"], 3
    )
    results["fast against the best stock call"] = round(
        results[f"fast, batch {best}"]["images_per_s"] / stock_rates[best]["images_per_s"], 3
    )
    for entry in results.values():
        if isinstance(entry, dict) and "images_per_s" in entry:
            entry["share_of_limit"] = round(
                entry["images_per_s"] * tflop_per_image / limit_tflops, 3
            )
    return results


def _stock(pipe: Any, guidance: float, size_px: int, batch: int, num_steps: int) -> Any:
    """A call as its documentation has it."""
    return pipe(
        prompt=CAPTION,
        num_images_per_prompt=batch,
        generator=[torch.Generator().manual_seed(seed) for seed in range(batch)],
        guidance_scale=guidance,
        num_inference_steps=num_steps,
        height=size_px,
        width=size_px,
    )


def _requests(renderer: TextToImage, count: int) -> list[ViewRequest]:
    return requests_for(
        [CAPTION],
        columns=renderer.columns(),
        variations=renderer.variations(),
        views_per_subject=count,
    )


def _crowd(requests: Sequence[ViewRequest]) -> list[ViewRequest]:
    """The first request with other neighbours."""
    others = [
        replace(request, key=f"{request.key}+", seed=request.seed + 1) for request in requests[1:]
    ]
    return [requests[0], *others]


def _flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _rate(call: Callable[[], Any], count: int, device: str) -> dict[str, float]:
    """Images per second, memory in GiB and joules per image of one call."""
    energy = EnergyCounter()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    synchronise(device)
    before, start = energy.joules(), time.perf_counter()
    call()
    synchronise(device)
    seconds, joules = time.perf_counter() - start, energy.joules() - before
    rate = {"images_per_s": round(count / seconds, 3)}
    if device == "cuda":
        rate["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    if joules:
        rate["joules_per_image"] = round(joules / count, 1)
    return rate


def _equal(some: Sequence[RenderedView], others: Sequence[RenderedView]) -> bool:
    return all(np.array_equal(a.pixels, b.pixels) for a, b in zip(some, others, strict=True))


def _difference(some: Sequence[RenderedView], others: Sequence[RenderedView]) -> dict[str, float]:
    """Largest difference in levels of 255, and the share of values that differ."""
    pairs = zip(some, others, strict=True)
    levels = np.stack([np.abs(a.pixels.astype(int) - b.pixels.astype(int)) for a, b in pairs])
    return {"levels": int(levels.max()), "share": round(float((levels > 0).mean()), 6)}
