"""Small shard sets made through the contract itself, with pictures that nobody has to render."""

import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from manifests.columns import DeclaredColumn, Value
from manifests.commit import Expected, commit_shard
from manifests.ids import group_id
from manifests.manifest import Manifest
from manifests.plan import ViewRequest, hash_subjects
from manifests.recipe import Identity
from manifests.rows import SubjectRow, ViewRow, subjects_to_table
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import Store, open_store
from manifests.tars import View, write_tar

CAPTIONS = ("a red fox", "a blue door", "two pears")
FAILED = frozenset({"000000001_001"})
"""Keys of the views that fail in every set that is made here."""


COLUMNS = (
    DeclaredColumn("steps", "int64", "strokes of the brush", "strokes", scope="set"),
    DeclaredColumn("avoid", "string", "what not to paint, empty for nothing", scope="subject"),
    DeclaredColumn("guidance_scale", "double", "how closely to paint", scope="variation"),
    DeclaredColumn("num_cut", "int64", "words that were not painted", "words", scope="view"),
)
"""A column of every scope, as a renderer declares them."""


def subject_rows(*captions: str) -> list[SubjectRow]:
    """The plan of some captions."""
    return [
        SubjectRow(
            group_index=index,
            group_id=group_id("caption", caption),
            kind="caption",
            text=caption,
            values={"avoid": ""},
        )
        for index, caption in enumerate(captions)
    ]


@dataclass(frozen=True)
class Listed:
    """A plan that lies in a list."""

    rows: Sequence[SubjectRow]
    columns: Sequence[DeclaredColumn] = COLUMNS

    def table(self, start: int, stop: int) -> pa.Table:
        return subjects_to_table(self.rows[start:stop], self.columns)


def scales(*values: float) -> list[dict[str, Value]]:
    """Variations of the scale."""
    return [{"guidance_scale": value} for value in values]


def size(width_px: int, height_px: int) -> dict[str, int]:
    """The size of a variation, stored as it was rendered."""
    sides = {"width_px": width_px, "height_px": height_px}
    return {f"render_{name}": side for name, side in sides.items()} | sides


def identity_of(subjects: Sequence[SubjectRow], **changes: Any) -> Identity:
    """Two views a subject, two subjects a shard, pictures of 8 x 8 px."""
    values: dict[str, Any] = {
        "dataset_seed": 7,
        "views_per_subject": 2,
        "variations": scales(1.0, 3.0),
        "num_subjects": len(subjects),
        "subjects_per_shard": 2,
        "subjects_sha256": hash_subjects(subjects, COLUMNS),
        "renderer": "painter",
        "renderer_identity": {"model": "easel", "brush": 4},
        "model": "easel",
        "revision": "1",
        "columns": COLUMNS,
        "constants": {"steps": 4},
        "render_width_px": 8,
        "render_height_px": 8,
        "width_px": 8,
        "height_px": 8,
        "format": "png",
        "audits": [{"name": "non-finite"}, {"name": "blank", "min_levels": 8}],
    }
    return Identity(**values | changes)


def begin(
    url: str | Path | Store,
    captions: Sequence[str] = CAPTIONS,
    environment: Mapping[str, str] | None = None,
    **changes: Any,
) -> ShardSet:
    """A set whose shards are still to be made: two of them, unless `changes` say otherwise."""
    subjects = subject_rows(*captions)
    store = open_store(str(url)) if isinstance(url, str | Path) else url
    identity, plan = identity_of(subjects, **changes), Listed(subjects)
    return ShardSet.begin(store, identity, plan, environment=environment or {"python": "3.11"})


def picture_of(request: ViewRequest) -> bytes:
    """A picture that depends on the request alone, as that of a renderer."""
    number = request.seed * 1000 + int(10 * float(request.variation["guidance_scale"]))
    return png(8, 8, sha256(str(number).encode()).digest() * 6)


def png(width: int, height: int, pixels: bytes) -> bytes:
    """An RGB PNG of some bytes, without any imaging library."""
    stride = 3 * width
    lines = b"".join(b"\0" + pixels[stride * y : stride * (y + 1)] for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(lines)),
            chunk(b"IEND", b""),
        ]
    )


def views_of(
    shards: ShardSet,
    shard: int,
    picture: Callable[[ViewRequest], bytes] = picture_of,
) -> list[View]:
    """The views of a shard as a worker makes them."""
    identity = shards.recipe.identity
    views = []
    for request in shards.requests(shard):
        image = None if request.key in FAILED else picture(request)
        subject = request.subject
        row = ViewRow(
            key=request.key,
            group_id=subject.group_id,
            view_index=request.view_index,
            status="failed" if image is None else "ok",
            reason="blank" if image is None else "",
            kind=subject.kind,
            text=subject.text,
            label=subject.label,
            licence=subject.licence,
            source=subject.source,
            renderer=identity.renderer,
            model=identity.model,
            revision=identity.revision,
            seed=request.seed,
            **identity.size_of(request.view_index),
            format=identity.format,
            sha256="" if image is None else sha256(image).hexdigest(),
            values={**identity.constants, **subject.values, **request.variation, "num_cut": 0},
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
            expected_of(shards, shard),
            write_tar_of(shards, shard, Path(scratch) / "shard.tar", views=views),
        )


def expected_of(shards: ShardSet, shard: int) -> Expected:
    """What the tar of a shard has to be."""
    return Expected.of(shards.recipe, shard, [request.key for request in shards.requests(shard)])


def make_set(url: str | Path | Store, **changes: Any) -> ShardSet:
    """A whole set: begun, committed and sealed, with its advisory files."""
    shards = begin(url, **changes)
    for shard in range(shards.layout.num_shards):
        commit(shards, shard)
        shards.store.create(shards.layout.stats(shard), b'{"total_s": 1.5}\n')
    seal_set(shards)
    return shards


def make_numbered_set(url: str | Path) -> ShardSet:
    """A whole set whose labels are whole numbers, for which timm has a file."""
    subjects = [
        replace(subject, label=label)
        for subject, label in zip(
            subject_rows("a red fox", "a blue door", "two pears"), ("1", "0", "12"), strict=True
        )
    ]
    store, plan = open_store(str(url)), Listed(subjects)
    shards = ShardSet.begin(store, identity_of(subjects), plan, environment={})
    for shard in range(shards.layout.num_shards):
        commit(shards, shard)
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
