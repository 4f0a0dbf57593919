"""Views and groups of a set: find them, draw them, render a view again."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from manifests.errors import ContractError, CorruptError, ForeignSetError
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import shortened
from manifests.ids import canonical_text, parse_key, view_key
from manifests.recipe import Identity
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.contact_sheet import SheetRow, contact_sheet
from pipeline.encoding import decode
from pipeline.job import Job
from pipeline.machine_paths import recall
from pipeline.renderers import renderer_class
from pipeline.wording import title_of, variation_name
from pipeline.worker import ShardWorker

MAX_GROUPS_NAMED = 10
"""Groups that a message names if a text is in several."""
ONE_VARIATION_COLUMNS = 8
VIEW_WIDTH = 24
"""Columns of the terminal for one of several views."""


def find_view(shards: ShardSet, key: str) -> tuple[int, ViewRow]:
    """Shard and row of a committed view.

    Args:
        key: Name of the view, such as 000000012_003.

    Raises:
        ContractError: Not a key, or outside of the plan.
        ForeignSetError: The shard of the view is not committed yet.
        CorruptError: The manifest is damaged or lacks the row.
    """
    shard, rows = _rows_beside(shards, key)
    for row in rows:
        if row.key == key:
            return shard, row
    raise CorruptError(
        f"{shards.store.at(shards.layout.manifest(shard))}: has no row {key}; run `synth verify`"
    )


def _rows_beside(shards: ShardSet, key: str) -> tuple[int, Sequence[ViewRow]]:
    """The committed shard that the plan says a view is in, and its rows. Raises as `find_view`."""
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
        return shard, shards.manifest(shard).rows
    except FileNotFoundError as exc:
        raise ForeignSetError(
            f"{shards.store.url}: shard {shard} with {key} is not committed yet; see `synth status`"
        ) from exc


def find_group(shards: ShardSet, name: str) -> int:
    """Index of the group that a user names: by its index, its text, or a part of its text.

    Raises:
        ContractError: No group has the text, several have it, or no group has the index.
    """
    num_groups = shards.recipe.identity.num_subjects
    if name.isascii() and name.isdigit() and len(name) < 10:
        if int(name) >= num_groups:
            raise ContractError(
                f"{shards.store.url}: no group {name}; it has groups 0 to {num_groups - 1}"
            )
        return int(name)
    subjects, count = shards.find_subjects(canonical_text(name), limit=MAX_GROUPS_NAMED)
    if not subjects:
        raise ContractError(
            f"{shards.store.url}: no group has {shortened(name)!r} in its text; give a part of it, "
            f"a group from 0 to {num_groups - 1}, or a key such as 000000012_003"
        )
    if count > 1:
        lines = ", ".join(f"{row.group_index} ({shortened(row.text, 60)})" for row in subjects)
        more = f" and {count - len(subjects):,} others" if count > len(subjects) else ""
        raise ContractError(
            f"{shards.store.url}: {count:,} groups have {shortened(name)!r} in their text; give "
            f"one of them by its number: {lines}{more}"
        )
    return subjects[0].group_index


def group_rows(shards: ShardSet, group: int) -> tuple[int, list[ViewRow]]:
    """Shard and rows of all views of a committed group.

    Raises:
        ForeignSetError: Its shard is not committed yet.
        CorruptError: The manifest is damaged.
    """
    shard, rows = _rows_beside(shards, view_key(group, 0))
    return shard, [row for row in rows if parse_key(row.key)[0] == group]


def group_tiles(
    shards: ShardSet, shard: int, rows: Sequence[ViewRow]
) -> list[NDArray[np.uint8] | str]:
    """Pixels of each view, or why there are none."""
    tiles: list[NDArray[np.uint8] | str] = []
    for row in rows:
        try:
            tiles.append(
                decode(shards.image(shard, row), where=row.key) if row.is_ok else row.reason
            )
        except CorruptError:  # `synth verify` says more
            tiles.append("damaged")
    return tiles


def group_sheet(
    identity: Identity, rows: Sequence[ViewRow], tiles: Sequence[NDArray[np.uint8] | str]
) -> bytes:
    """All views of a group as a PNG: variations in columns, or eight views in each row."""
    names = [variation_name(variation) for variation in identity.variations]
    headings = names if len(names) > 1 else [""] * min(len(rows), ONE_VARIATION_COLUMNS)
    lines = [
        SheetRow(
            label="" if start else title_of(rows[0]),
            note=f"{rows[start].key[-3:]} to {rows[start : start + len(headings)][-1].key[-3:]}",
            tiles=tiles[start : start + len(headings)],
        )
        for start in range(0, len(rows), len(headings))
    ]
    shared = ". The views of a row share their noise" if identity.paired and names[1:] else ""
    return contact_sheet(headings, lines, footer=f"{identity.model}{shared}.")


def side_by_side(
    tiles: Sequence[NDArray[np.uint8] | str], headings: Sequence[str], *, width: int
) -> Text:
    """Views as half blocks, several in a line, each below its heading.

    Args:
        width: Columns of the terminal.
    """
    per_line = max(1, min(len(tiles), width // (VIEW_WIDTH + 1)))
    view_width = min(VIEW_WIDTH, width)
    text = Text()
    for start in range(0, len(tiles), per_line):
        blocks = [_block(tile, view_width) for tile in tiles[start : start + per_line]]
        for heading in headings[start : start + per_line]:
            text.append(f"{heading[:view_width]:<{view_width}} ", "dim")
        text.append("\n")
        for number in range(max(map(len, blocks))):
            for block in blocks:
                line = block[number] if number < len(block) else Text()
                text.append_text(line)
                text.append(" " * (view_width + 1 - line.cell_len))
            text.append("\n")
    return text


def _block(tile: NDArray[np.uint8] | str, width: int) -> list[Text]:
    """The lines of text that show one view."""
    if isinstance(tile, str):
        return [Text(tile[:width], "red")]
    return [*half_blocks(tile, width=width).split()]


def render_again(
    shards: ShardSet, shard: int, row: ViewRow, *, model: str | None, trusted: Collection[str]
) -> ViewRow:
    """Render one view by itself; see `ShardWorker.render_again`.

    Args:
        shard: Number of the shard that holds the view.
        row: Of the view, as it is stored.
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
    return ShardWorker(shards, job).render_again(shard, row)


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
