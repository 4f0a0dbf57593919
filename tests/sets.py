"""Small shard sets made through the contract itself, with pictures that nobody has to render."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from manifests.commit import commit_shard
from manifests.ids import group_id
from manifests.manifest import Manifest
from manifests.plan import ViewRequest, hash_prompts
from manifests.recipe import Identity
from manifests.rows import PromptRow, ViewRow
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import Store, open_store
from manifests.tars import View, write_tar

CAPTIONS = ("a red fox", "a blue door", "two pears")
FAILED = frozenset({"000000001_001"})
"""Keys of the views that fail in every set that is made here."""


def prompt_rows(*captions: str) -> list[PromptRow]:
    """The plan of some captions."""
    return [
        PromptRow(group_index=index, group_id=group_id("caption", caption), prompt=caption)
        for index, caption in enumerate(captions)
    ]


def identity_of(prompts: Sequence[PromptRow], **changes: Any) -> Identity:
    """Two views a prompt, two prompts a shard."""
    values: dict[str, Any] = {
        "dataset_seed": 7,
        "images_per_prompt": 2,
        "guidance_scales": (1.0, 3.0),
        "num_prompts": len(prompts),
        "prompts_per_shard": 2,
        "prompts_sha256": hash_prompts(prompts),
        "renderer": "painter",
        "renderer_identity": {"model": "easel", "steps": 4},
        "image": {"format": "png", "size_px": 8},
    }
    return Identity(**values | changes)


def begin(
    url: str | Path | Store,
    captions: Sequence[str] = CAPTIONS,
    environment: Mapping[str, str] | None = None,
    **changes: Any,
) -> ShardSet:
    """A set whose shards are still to be made: two of them, unless `changes` say otherwise."""
    prompts = prompt_rows(*captions)
    store = open_store(str(url)) if isinstance(url, str | Path) else url
    identity = identity_of(prompts, **changes)
    return ShardSet.begin(store, identity, prompts, environment or {"python": "3.11"})


def picture_of(request: ViewRequest) -> bytes:
    """Bytes that depend on the request alone, as those of a renderer."""
    return f"{request.key} {request.seed} {request.guidance_scale}".encode() * 3


def views_of(
    shards: ShardSet,
    shard: int,
    picture: Callable[[ViewRequest], bytes] = picture_of,
    *,
    size_px: int = 8,
) -> list[View]:
    """The views of a shard as a worker makes them."""
    views = []
    for request in shards.requests(shard):
        image = None if request.key in FAILED else picture(request)
        row = ViewRow(
            key=request.key,
            group_id=request.prompt.group_id,
            view_index=request.view_index,
            status="failed" if image is None else "ok",
            reason="blank" if image is None else "",
            prompt=request.prompt.prompt,
            negative_prompt="",
            label=request.prompt.label,
            licence=request.prompt.licence,
            source=request.prompt.source,
            renderer="painter",
            model="easel",
            revision="",
            scheduler="",
            steps=4,
            guidance_scale=request.guidance_scale,
            seed=request.seed,
            render_width_px=size_px,
            render_height_px=size_px,
            width_px=size_px,
            height_px=size_px,
            format="png",
            num_tokens_cut=0,
            renderer_params="{}",
            **({} if image is None else {"sha256": sha256(image).digest()}),
        )
        views.append(View(row=row, image=image))
    return views


def write_tar_of(
    shards: ShardSet,
    shard: int,
    path: Path,
    *,
    views: Sequence[View] | None = None,
    recipe_sha256: str | None = None,
) -> Path:
    """The tar of a shard as a local file, with other views or another recipe if given."""
    with path.open("wb") as file:
        write_tar(
            file,
            views_of(shards, shard) if views is None else views,
            recipe_sha256=recipe_sha256 or shards.recipe_sha256,
            shard=shard,
        )
    return path


def commit(
    shards: ShardSet, shard: int, *, views: Sequence[View] | None = None, store: Store | None = None
) -> Manifest:
    """Make one shard."""
    with tempfile.TemporaryDirectory() as scratch:
        return commit_shard(
            store or shards.store,
            shards.layout,
            tar=write_tar_of(shards, shard, Path(scratch) / "shard.tar", views=views),
            recipe_sha256=shards.recipe_sha256,
            shard=shard,
            keys=[request.key for request in shards.requests(shard)],
        )


def make_set(url: str | Path | Store, **changes: Any) -> ShardSet:
    """A whole set: begun, committed and sealed, with its advisory files."""
    shards = begin(url, **changes)
    for shard in range(shards.layout.num_shards):
        commit(shards, shard)
        shards.store.create(shards.layout.stats(shard), b'{"total_s": 1.5}\n')
    seal_set(shards)
    return shards


def tree(folder: str | Path) -> dict[str, bytes]:
    """Every file under a folder by relative path, hidden ones too."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@contextmanager
def refused(error: type[Exception], *parts: str) -> Iterator[None]:
    """Expect this very type of error, and one line that holds every part."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert caught.type is error
    assert "\n" not in message
    assert [part for part in parts if part not in message] == [], message
