"""One view of a set: found, drawn in a terminal, rendered again."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from manifests.errors import ContractError, ForeignSetError
from manifests.ids import parse_key
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.worker import Job, ShardWorker


def find_view(shards: ShardSet, key: str) -> tuple[int, ViewRow]:
    """Shard and row of a committed view.

    Raises:
        ContractError: The key is none, lies outside the plan, or is not committed yet.
    """
    group, view = parse_key(key)
    identity = shards.recipe.identity
    if group >= identity.num_prompts or view >= identity.images_per_prompt:
        raise ContractError(
            f"{shards.store.url}: no view {key}; it has groups 0 to {identity.num_prompts - 1} of "
            f"{identity.images_per_prompt} views"
        )
    shard = group // identity.prompts_per_shard
    try:
        rows = shards.manifest(shard).rows
    except FileNotFoundError as exc:
        raise ForeignSetError(
            f"{shards.store.url}: shard {shard} with {key} is not committed yet; see `synth status`"
        ) from exc
    return shard, next(row for row in rows if row.key == key)


def worker_of(shards: ShardSet, *, model: str | None) -> ShardWorker:
    """A worker for an existing set, configured as the set was begun."""
    config = shards.recipe.environment["config"]
    renderer: dict[str, Any] = dict(config["renderer"])
    frozen = shards.recipe.identity.renderer_identity
    renderer |= {
        name: frozen[name] for name in ("batch_size", "dtype", "threads") if name in frozen
    }
    if "device_type" in frozen:
        renderer["device"] = frozen["device_type"]
    if model is not None:
        renderer["model"] = model
    job = Job(
        url=shards.store.url,
        renderer=shards.recipe.identity.renderer,
        renderer_config=renderer,
        image_config=dict(config["image"]),
        device_type=str(frozen.get("device_type", "cpu")),
        num_threads=int(frozen.get("threads", 1)),
    )
    return job.open()


def render_again(shards: ShardSet, shard: int, key: str, *, model: str | None) -> ViewRow:
    """The row that rendering the view alone gives today, at the place of the stored one."""
    requests = [each for each in shards.requests(shard) if each.key == key]
    (view,) = worker_of(shards, model=model).render_views(requests)
    _, stored = find_view(shards, key)
    return replace(view.row, offset=stored.offset, length=stored.length)


def half_blocks(pixels: NDArray[np.uint8], *, width: int) -> Text:
    """A picture as coloured half blocks, two pixels a character."""
    scale = min(1.0, width / pixels.shape[1])
    size = max(2, int(pixels.shape[1] * scale)), max(2, int(pixels.shape[0] * scale)) // 2 * 2
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append("\u2580", style)
        text.append("\n")
    return text
