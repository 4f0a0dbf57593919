"""Groups as a report shows them: pictures in a grid, with what is known of each view."""

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.columns import Value
from manifests.errors import CorruptError
from manifests.rows import ViewRow
from manifests.shard_set import ShardSet
from pipeline.diversity import thumbnail
from pipeline.encoding import decode
from pipeline.wording import title_of, variation_name

PICTURE_PX = 320
"""Longer side of a picture in the page; a larger view is shrunk."""
MAX_PICTURES = 600
MAX_VARIATIONS = 12
"""Columns of a group; more would not fit on a screen."""
MAX_DRAWS = 4
"""Rows of a group with several variations."""
MAX_VIEWS = 12
"""Views of a group with one variation."""
READERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One view."""

    row: ViewRow
    variation: str
    picture: str
    """The image as a data URL, or empty."""
    fault: str
    """Why there is no picture, or empty."""
    thumbnail: NDArray[np.float32] | None
    """For distances; None without a picture."""
    commands: Sequence[str]
    """Command lines that show the view, and that render it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One group."""

    index: int
    title: str
    """The text of a caption; the label of what nobody would read, such as a program."""
    text: str
    label: str
    lines: Sequence[Sequence[Tile]]
    """Rows of the grid; in a set with several variations, these are its columns."""
    num_views: int

    @property
    def num_shown(self) -> int:
        return sum(map(len, self.lines))

    @property
    def tiles(self) -> list[Tile]:
        return [tile for line in self.lines for tile in line]


def cards(shards: ShardSet, groups: Sequence[tuple[int, Sequence[ViewRow]]]) -> list[Card]:
    """The groups, with as many pictures as a page holds."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="report") as pool:
        loading = []
        for shard, group in groups:
            lines = _chosen(group, len(shards.recipe.identity.variations), len(groups))
            tiles = [[pool.submit(_tile, shards, shard, row) for row in line] for line in lines]
            loading.append((group, tiles))
        return [
            Card(
                index=int(group[0].key[:-4]),
                title=title_of(group[0]),
                text=group[0].text,
                label=group[0].label,
                lines=[[tile.result() for tile in line] for line in tiles],
                num_views=len(group),
            )
            for group, tiles in loading
        ]


def num_across(num_views: int) -> int:
    """Columns in which views without variations fill their lines best."""
    shown = min(num_views, MAX_VIEWS)
    return min((4, 5, 3), key=lambda columns: -shown % columns) if shown > 4 else shown


def _chosen(group: Sequence[ViewRow], num_variations: int, num_groups: int) -> list[list[ViewRow]]:
    """The views of a group that are shown, line by line."""
    most = max(1, MAX_PICTURES // num_groups)
    if num_variations == 1:
        return [list(group[: min(MAX_VIEWS, most)])]
    columns = min(num_variations, MAX_VARIATIONS)
    num_draws = min(len(group) // num_variations, MAX_DRAWS, max(1, most // columns))
    starts = (draw * num_variations for draw in range(num_draws))
    return [list(group[start : start + columns]) for start in starts]


def _tile(shards: ShardSet, shard: int, row: ViewRow) -> Tile:
    picture, fault, small = "", row.reason, None
    if row.is_ok:
        try:
            picture, small = _picture(shards, shard, row)
        except CorruptError:  # `synth verify` says more
            fault = "damaged"
    variations = shards.recipe.identity.variations
    return Tile(
        row=row,
        variation=variation_name(variations[row.view_index % len(variations)]),
        picture=picture,
        fault=fault,
        thumbnail=small,
        commands=_commands(shards, row),
    )


def _commands(shards: ShardSet, row: ViewRow) -> list[str]:
    show = f"synth show {shlex.quote(shards.store.url)} {row.key}"
    identity = shards.recipe.identity
    # A plug-in of somebody else runs only where the user names it.
    foreign = sorted(name for name in {identity.renderer, *identity.reasons} if ":" in name)
    trust = "".join(f" --trust {shlex.quote(name)}" for name in foreign)
    return [show, f"{show} --render{trust}"]


def _picture(shards: ShardSet, shard: int, row: ViewRow) -> tuple[str, NDArray[np.float32]]:
    """A view as a data URL: the stored bytes, or a smaller picture of a large one."""
    data, kind = shards.image(shard, row), row.format.replace("jpg", "jpeg")
    # Decoded also where the stored bytes are shown, so that a damaged picture is named here and is
    # not a broken image in the browser.
    pixels = decode(data, where=row.key)
    if max(pixels.shape) > PICTURE_PX:
        image = Image.fromarray(pixels)
        image.thumbnail((PICTURE_PX, PICTURE_PX))
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=85)
        data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", thumbnail(pixels)


def headings(variations: Sequence[Mapping[str, Value]]) -> tuple[str, list[str]]:
    """What varies, and its values, for the columns of a group.

    Example: `[{"guidance_scale": 1.0}, {"guidance_scale": 2.0}]` gives
    ("guidance scale", ["1", "2"]); of several columns the values are whole names.
    """
    names = [variation_name(variation) for variation in variations[:MAX_VARIATIONS]]
    if len(variations[0]) != 1:
        return "variation", names
    (name,) = variations[0]
    what = name.replace("_", " ")
    return what, [text.removeprefix(what).strip() for text in names]
