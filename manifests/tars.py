"""The tar of a shard: whole groups, readable by any stock WebDataset reader.

Each view is an image, a JSON and a text member, adjacent and in the order of keys. The last member
is `__failed__`, which stock readers skip because it has no suffix: it holds the hash of the recipe
and the rows of the views that failed. So the manifest can be rebuilt from the tar, and a tar that
was cut is recognised by its missing end (docs/adr/0003-failed-rows-in-the-trailer.md).
"""

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
"""A member is read into memory as a whole, so a header that states more is refused."""
_ADVICE = "render the shard again"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view as it goes into a tar: its row, and its image (None if it failed)."""

    row: ViewRow
    image: bytes | None


def write_tar(file: BinaryIO, views: Iterable[View], *, recipe_sha256: str, shard: int) -> None:
    """Write the tar of a shard; its bytes depend on the arguments alone.

    Args:
        file: Written to from its current position.
        views: All requested views in the order of keys, failed ones included.
        recipe_sha256: Hash of the recipe's identity.
    """
    failed: list[str] = []
    num_views = 0
    size = 0
    for view in views:
        num_views += 1
        row = view.row
        if view.image is None:
            failed.append(row.to_json())
            continue
        size += _add(file, f"{row.key}.{row.format}", view.image)
        size += _add(file, f"{row.key}.json", row.to_json().encode())
        size += _add(file, f"{row.key}.txt", row.text.encode())
    head = {"recipe_sha256": recipe_sha256, "shard": shard, "num_views": num_views}
    size += _add(file, TRAILER, "\n".join([canonical_json(head), *failed]).encode())
    file.write(_end_of(size))


def _add(file: BinaryIO, name: str, content: bytes) -> int:
    """Write a member; returns how many bytes it takes."""
    filling = bytes(-len(content) % tarfile.BLOCKSIZE)
    file.write(header_of(name, len(content)) + content + filling)
    return member_bytes(len(content))


def member_bytes(content_bytes: int) -> int:
    """What a member takes in a tar: a header and whole blocks."""
    return tarfile.BLOCKSIZE * (1 + -(-content_bytes // tarfile.BLOCKSIZE))


def header_of(name: str, size: int) -> bytes:
    """The header of a regular file in a tar of format ustar, 512 bytes.

    Equal to what `tarfile` writes, and quicker, which image programs need. Mode 0644, owner 0
    and time 0: nothing of the clock or the host.
    """
    encoded = name.encode()
    if len(encoded) > 100 or size >= 8**11:
        raise ContractError(f"{name[:80]!r}: no name and size of a member of a shard")
    fields = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    head, tail = encoded.ljust(100, b"\0") + fields, b"0".ljust(101, b"\0") + _USTAR
    # The sum is of all bytes, its own field counted as eight spaces.
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail


_USTAR = b"ustar\x0000".ljust(255, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedTar:
    """What a tar says of itself, after every image was checked by its hash."""

    recipe_sha256: str
    shard: int
    rows: list[ViewRow]
    """All rows in the order of keys, failed ones included, with the positions of their images."""


def members_of_group(data: bytes, *, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Image and row of each view in the part of a tar that holds one group.

    Contents are not checked: the index has a hash of the rows, and each row that of its image.

    Args:
        where: What to call the part in messages.

    Raises:
        CorruptError: It is not a row of whole views.
    """
    start, members = 0, []
    while start < len(data):
        name = data[start : start + 100].rstrip(b"\0")
        content = start + tarfile.BLOCKSIZE
        try:
            size = int(data[start + 124 : start + 135], 8)
        except ValueError:
            size = -1
        if size < 0 or content + size > len(data):
            raise CorruptError(f"{where}: no member of a tar at byte {start}; run `synth verify`")
        members.append((name.rpartition(b".")[2], data[content : content + size]))
        start += member_bytes(size)
    for index in range(0, len(members), 3):
        kinds = [kind for kind, _ in members[index : index + 3]]
        if kinds[1:] != [b"json", b"txt"]:
            raise CorruptError(f"{where}: no image, row and text in a row; run `synth verify`")
        yield members[index][1], members[index + 1][1]


def walk_tar(file: BinaryIO, columns: Sequence[DeclaredColumn], *, where: str) -> WalkedTar:
    """Read a whole tar that is not trusted, and check that its parts agree with each other.

    Args:
        columns: What the renderer of the set declares.
        where: What to call the tar in messages.

    Raises:
        CorruptError: The tar was cut or changed, its views are not in the order of keys, or it has
            members that do not belong in a shard.
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
        # An image is followed by its row and its text; "nothing" is for the message.
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
    """Read the members up to the last byte of the tar.

    Every byte has to be as `write_tar` writes it: no link, no clock, no owner, zeros for filling.

    Yields:
        Name, offset of the content in the tar, and content of each member.
    """
    offset = 0
    # A block of zeros ends the members, and so does the end of a file that was cut.
    while (header := file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
        if header[257:265] != _USTAR[:8]:
            raise ValueError(f"no header of a member at byte {offset}")
        name, size = header[:100].rstrip(b"/\0").decode(), int(header[124:135], 8)
        # Compared as a whole with the header that `write_tar` makes, and not field by field: a
        # field that nobody compares could change unseen.
        if size < 0 or header != header_of(name, size) or size > MAX_MEMBER_BYTES:
            raise CorruptError(
                f"{where}: {name!r} is no regular file as this format writes it; {_ADVICE}"
            )
        content = file.read(size)
        filling = bytes(-size % tarfile.BLOCKSIZE)
        if len(content) != size or file.read(len(filling)) != filling:
            raise CorruptError(f"{where}: cut inside {name}; {_ADVICE}")
        yield name, offset + tarfile.BLOCKSIZE, content
        offset += tarfile.BLOCKSIZE + size + len(filling)
    # The first block of the end is in `header` already; one byte more is read to see that nothing
    # follows.
    end = _end_of(offset)
    tail = end[len(header) :]
    if file.read(len(tail) + 1) != tail:
        raise CorruptError(f"{where}: expected its end at byte {offset + len(end)}; {_ADVICE}")


def _end_of(size: int) -> bytes:
    """Two blocks of zeros, and as many more as make a whole record."""
    end = -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    return bytes(end - size)


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
        parse_key(row.key)  # raises if a member is named otherwise
    # All rows together show that no key comes twice. The rows of the images are compared once more,
    # because sorting has hidden the order in which they lie in the tar.
    in_order = all(a.key < b.key for a, b in pairwise(rows)) and all(
        a.key < b.key for a, b in pairwise(ok)
    )
    if not in_order or head["num_views"] != len(rows):
        raise CorruptError(
            f"{where}: {len(rows)} views, expected {head['num_views']} in the order of keys; "
            f"{_ADVICE}"
        )
    return WalkedTar(recipe_sha256=head["recipe_sha256"], shard=head["shard"], rows=rows)
