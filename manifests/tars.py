"""The tar of a shard: whole groups, readable by any stock WebDataset reader.

Per view an image, a JSON and a text member, adjacent and in the order of keys; at last a member
`__failed__` (no suffix: stock readers skip it) with the hash of the recipe and the rows of the
views that failed. So a tar describes itself, a cut one is seen, and its manifest can be rebuilt.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from manifests.canonical import canonical_json, sha256_hex
from manifests.columns import DeclaredColumn
from manifests.errors import ContractError, CorruptError
from manifests.ids import parse_key
from manifests.pictures import require_picture
from manifests.rows import ViewRow, parse_view_json

TRAILER = "__failed__"
MAX_MEMBER_BYTES = 256 << 20
_ADVICE = "render the shard again"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view as it goes into a tar: its row, and its image (None if it failed)."""

    row: ViewRow
    image: bytes | None


def write_tar(file: BinaryIO, views: Iterable[View], *, recipe_sha256: str, shard: int) -> None:
    """Write the views in the order given. The bytes depend on the arguments alone."""
    failed: list[str] = []
    num_views = 0
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for view in views:
            num_views += 1
            row = view.row
            if view.image is None:
                failed.append(row.to_json())
                continue
            _add(tar, f"{row.key}.{row.format}", view.image)
            _add(tar, f"{row.key}.json", row.to_json().encode())
            _add(tar, f"{row.key}.txt", row.text.encode())
        head = {"recipe_sha256": recipe_sha256, "shard": shard, "num_views": num_views}
        _add(tar, TRAILER, "\n".join([canonical_json(head), *failed]).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # mode 0644, owner 0, mtime 0: no clock, no host
    member.size = size
    return member


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedTar:
    """What a tar says of itself, every image hash checked."""

    recipe_sha256: str
    shard: int
    rows: list[ViewRow]
    """All rows in the order of keys, failed ones included, with the places of the images."""


def walk_tar(file: BinaryIO, columns: Sequence[DeclaredColumn], *, where: str) -> WalkedTar:
    """Read a whole tar as untrusted input and check it against itself.

    Args:
        columns: What the renderer of the set declares.

    Raises:
        CorruptError: Cut, changed, out of order, or with members that have no place in a shard.
    """
    try:
        return _walk(file, columns, where)
    except CorruptError:
        raise
    except (tarfile.TarError, ContractError, ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not a readable tar ({exc}); {_ADVICE}") from exc


def _walk(file: BinaryIO, columns: Sequence[DeclaredColumn], where: str) -> WalkedTar:
    rows: list[ViewRow] = []
    trailer: bytes | None = None
    members = _members(file, where)
    for name, offset, content in members:
        if trailer is not None:
            raise CorruptError(f"{where}: {name} follows {TRAILER}; {_ADVICE}")
        if name == TRAILER:
            trailer = content
            continue
        key, _, suffix = name.partition(".")
        row_name, _, row_text = next(members, ("nothing", 0, b""))
        text_name, _, text = next(members, ("nothing", 0, b""))
        if (row_name, text_name) != (f"{key}.json", f"{key}.txt"):
            raise CorruptError(
                f"{where}: {name} is followed by {row_name} and {text_name}; {_ADVICE}"
            )
        row = parse_view_json(row_text.decode(), columns, where=f"{where}, {row_name}")
        expected = (key, suffix, True, sha256_hex(content), text.decode())
        if (row.key, row.format, row.is_ok, row.sha256, row.text) != expected:
            raise CorruptError(f"{where}: image, row and text of {key} do not agree; {_ADVICE}")
        require_picture(
            content,
            format=row.format,
            width_px=row.width_px,
            height_px=row.height_px,
            where=f"{where}, {name}",
        )
        rows.append(row.at(offset, len(content)))
    if trailer is None:
        raise CorruptError(f"{where}: ends without {TRAILER}: it was cut; {_ADVICE}")
    return _finish(rows, trailer.decode(), columns, where)


def _members(file: BinaryIO, where: str) -> Iterator[tuple[str, int, bytes]]:
    """Name, offset of the content and content of each member, to the last byte of the tar.

    Every byte has to be as `write_tar` writes it: no link, no clock, no owner, zeros for filling.
    """
    offset = 0
    while (header := file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        name, size = member.name, member.size
        if header != _member(name, size).tobuf(tarfile.USTAR_FORMAT) or size > MAX_MEMBER_BYTES:
            raise CorruptError(
                f"{where}: {name!r} is no regular file as this format writes it; {_ADVICE}"
            )
        content = file.read(size)
        filling = bytes(-size % tarfile.BLOCKSIZE)
        if len(content) != size or file.read(len(filling)) != filling:
            raise CorruptError(f"{where}: cut inside {name}; {_ADVICE}")
        yield name, offset + tarfile.BLOCKSIZE, content
        offset += tarfile.BLOCKSIZE + size + len(filling)
    end = -(-(offset + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    tail = bytes(end - offset - len(header))
    if file.read(len(tail) + 1) != tail:
        raise CorruptError(f"{where}: expected its end at byte {end}; {_ADVICE}")


def _finish(
    ok: list[ViewRow], trailer: str, columns: Sequence[DeclaredColumn], where: str
) -> WalkedTar:
    head_text, *failed_texts = trailer.split("\n")
    head = json.loads(head_text)
    expected = {"recipe_sha256": str, "shard": int, "num_views": int}
    if not isinstance(head, dict) or any(type(head.get(k)) is not t for k, t in expected.items()):
        raise CorruptError(f"{where}: {TRAILER} does not name its recipe and shard; {_ADVICE}")
    failed = [parse_view_json(text, columns, where=f"{where}, {TRAILER}") for text in failed_texts]
    for row in failed:
        if row.is_ok or not row.reason or row.sha256:
            raise CorruptError(f"{where}: {TRAILER} holds {row.key}, which did not fail; {_ADVICE}")
    rows = sorted([*ok, *failed], key=lambda row: row.key)
    for row in rows:
        parse_key(row.key)
    in_order = all(a.key < b.key for a, b in pairwise(rows)) and all(
        a.key < b.key for a, b in pairwise(ok)
    )
    if not in_order or head["num_views"] != len(rows):
        raise CorruptError(
            f"{where}: {len(rows)} views, expected {head['num_views']} in the order of keys; "
            f"{_ADVICE}"
        )
    return WalkedTar(recipe_sha256=head["recipe_sha256"], shard=head["shard"], rows=rows)
