"""One view of a set: find its row, draw it in a terminal, render it again."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from manifests.errors import ContractError, CorruptError, ForeignSetError
from manifests.foundation.errors import ConfigError
from manifests.ids import parse_key
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.job import Job
from pipeline.machine_paths import recall
from pipeline.renderers import renderer_class
from pipeline.worker import ShardWorker


def find_view(shards: ShardSet, key: str) -> tuple[int, ViewRow]:
    """Shard and row of a committed view.

    Args:
        key: Name of the view, such as 000000012_003.

    Raises:
        ContractError: Not a key, or outside of the plan.
        ForeignSetError: The shard of the view is not committed yet.
        CorruptError: The manifest is damaged or lacks the row.
    """
    group, view = parse_key(key)
    identity = shards.recipe.identity
    if group >= identity.num_subjects or view >= identity.views_per_subject:
        raise ContractError(
            f"{shards.store.url}: no view {key}; it has groups 0 to {identity.num_subjects - 1} of "
            f"{identity.views_per_subject} views"
        )
    # Groups lie in shards in the order of the plan, so no other manifest has to be read.
    shard = group // identity.subjects_per_shard
    try:
        rows = shards.manifest(shard).rows
    except FileNotFoundError as exc:
        raise ForeignSetError(
            f"{shards.store.url}: shard {shard} with {key} is not committed yet; see `synth status`"
        ) from exc
    for row in rows:
        if row.key == key:
            return shard, row
    raise CorruptError(
        f"{shards.store.at(shards.layout.manifest(shard))}: has no row {key}; run `synth verify`"
    )


def render_again(
    shards: ShardSet, shard: int, key: str, *, model: str | None, trusted: Collection[str]
) -> ViewRow:
    """Render one view by itself and return its row, to be compared with the stored one.

    Offset and length are those of the stored row, because nothing is written: equal rows mean
    equal image bytes, by their hash.

    Args:
        shard: Number of the shard that holds the view.
        model: Folder or hub id of the model on this machine, if it is not where the recipe says.
        trusted: Dotted paths of plug-ins outside of this package that the user allows to run.

    Raises:
        ConfigError: The set names such a plug-in and nobody allowed it, or the renderer does not
            promise to make the same pixels again.
        IdentityError: This machine would render other pixels than the recipe's.
    """
    changes = recall(shards.recipe_sha256) | ({} if model is None else {"model": model})
    job = Job.from_recipe(shards.recipe, shards.store.url, changes=changes, trusted=trusted)
    if not renderer_class(job.renderer).is_reproducible:
        raise ConfigError(
            f"{shards.store.url}: renderer {job.renderer} does not promise the same pixels again, "
            "so there is nothing to compare"
        )
    worker = ShardWorker(shards, job)
    requests = [request for request in shards.requests(shard) if request.key == key]
    (view,) = worker.render_views(requests)
    _, stored = find_view(shards, key)
    return replace(view.row, offset=stored.offset, length=stored.length)


def half_blocks(pixels: NDArray[np.uint8], *, width: int) -> Text:
    """A picture as coloured half blocks: a character shows two pixels, one above the other.

    Args:
        pixels: RGB, [height, width, 3].
        width: Columns of the terminal that it may take; a wider picture is shrunk.
    """
    scale = min(1.0, width / pixels.shape[1])
    # An even number of pixel rows, as each line of text takes two of them.
    size = max(2, int(pixels.shape[1] * scale)), max(2, int(pixels.shape[0] * scale)) // 2 * 2
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append("\u2580", style)
        text.append("\n")
    return text
