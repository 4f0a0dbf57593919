import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.canonical import canonical_json
from manifests.errors import ContractError, CorruptError
from manifests.rows import ViewRow
from manifests.tars import TRAILER, View, WalkedTar, header_of, walk_tar, write_tar
from tests.sets import COLUMNS, begin, png, refused, views_of

RECIPE = "ab" * 32
WHERE = "data/000000.tar"
Members = list[tuple[str, bytes]]


def packed(views: Sequence[View]) -> bytes:
    file = io.BytesIO()
    write_tar(file, views, recipe_sha256=RECIPE, shard=0)
    return file.getvalue()


def walk(data: bytes) -> WalkedTar:
    return walk_tar(io.BytesIO(data), COLUMNS, where=WHERE)


def members_of(data: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def packed_members(members: Members, change: Callable[[tarfile.TarInfo], None] = id) -> bytes:
    """A tar of any members in any order, made by the standard library."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def with_trailer(members: Members, trailer: str) -> bytes:
    return packed_members([*members[:-1], (TRAILER, trailer.encode())])


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    """Two groups of two views; the last view failed."""
    return views_of(begin(tmp_path_factory.mktemp("set")), 0)


@pytest.fixture(scope="module")
def data(views: list[View]) -> bytes:
    return packed(views)


@pytest.fixture(scope="module")
def members(data: bytes) -> Members:
    return members_of(data)


def test_walking_a_tar_returns_all_that_was_written(views: list[View], data: bytes) -> None:
    walked = walk(data)
    assert (walked.recipe_sha256, walked.shard) == (RECIPE, 0)
    assert [row.at(-1, 0) for row in walked.rows] == [view.row for view in views]
    for row, view in zip(walked.rows, views, strict=True):
        assert data[row.offset : row.offset + row.length] == (view.image or b"") or not row.is_ok
    assert (walked.rows[3].offset, walked.rows[3].length) == (-1, 0)


def test_members_are_whole_views_and_then_the_trailer(members: Members) -> None:
    assert [name for name, _ in members] == [
        "000000000_000.png",
        "000000000_000.json",
        "000000000_000.txt",
        "000000000_001.png",
        "000000000_001.json",
        "000000000_001.txt",
        "000000001_000.png",
        "000000001_000.json",
        "000000001_000.txt",
        "__failed__",
    ]
    head, failed = members[-1][1].decode().split("\n")
    assert json.loads(head) == {"recipe_sha256": RECIPE, "shard": 0, "num_views": 4}
    assert json.loads(failed)["key"] == "000000001_001"


def test_tar_holds_no_clock_no_owner_and_is_ustar(data: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            # The magic and the version of USTAR, at their fixed offset in the header.
            assert data[member.offset + 257 : member.offset + 265] == b"ustar\x0000"
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert (member.mtime, member.mode, member.type) == (0, 0o644, tarfile.REGTYPE)
            assert member.pax_headers == {}


def test_same_views_give_the_same_bytes(views: list[View], data: bytes) -> None:
    assert packed(list(views)) == data
    assert len(data) % tarfile.RECORDSIZE == 0


def test_a_tar_cut_at_any_block_is_refused(data: bytes) -> None:
    for size in range(0, len(data), 512):
        with refused(CorruptError, WHERE, "render the shard again"):
            walk(data[:size])


@pytest.mark.parametrize("more", [b"\0", bytes(512), bytes(10240), b"more"])
def test_a_tar_with_bytes_after_its_end_is_refused(data: bytes, more: bytes) -> None:
    with refused(CorruptError, WHERE, "expected its end at byte", "render the shard again"):
        walk(data + more)


def test_every_changed_byte_is_seen(data: bytes) -> None:
    """A tar that a killed writer left is committed only if it is what `write_tar` writes."""
    last = len(data) - 1
    for offset in [*range(0, len(data), 7), last]:
        broken = bytearray(data)
        broken[offset] ^= 1
        try:
            walked = walk(bytes(broken))
        except CorruptError:
            continue
        assert walked != walk(data), f"byte {offset} changed unseen"


@pytest.mark.parametrize(
    "order",
    [
        (3, 4, 5, 0, 1, 2, 6, 7, 8, 9),  # views out of order
        (1, 0, 2, 3, 4, 5, 6, 7, 8, 9),  # json before image
        (0, 2, 1, 3, 4, 5, 6, 7, 8, 9),
        (0, 1, 3, 2, 4, 5, 6, 7, 8, 9),  # members of two views mixed
        (9, 0, 1, 2, 3, 4, 5, 6, 7, 8),  # the trailer is not last
        (0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),  # a view twice
        (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),  # a member twice
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9),  # the trailer twice
        (0, 1, 2, 6, 7, 8, 9),  # a view is missing
        (0, 1, 3, 4, 5, 6, 7, 8, 9),  # a text is missing
        (0, 1, 2, 3, 4, 5, 6, 7, 8),  # the trailer is missing
        (9,),
        (),
    ],
)
def test_members_that_are_not_whole_views_in_order_are_refused(
    members: Members, order: Sequence[int]
) -> None:
    with refused(CorruptError, WHERE):
        walk(packed_members([members[index] for index in order]))


@pytest.mark.parametrize("name", ["notes.txt", "../../etc/passwd", "/etc/passwd", "a/b.png", "x"])
def test_a_foreign_member_is_refused(members: Members, name: str) -> None:
    for index in range(len(members) + 1):
        with refused(CorruptError, WHERE):
            walk(packed_members([*members[:index], (name, b"foreign"), *members[index:]]))


@pytest.mark.parametrize("index", range(9))
@pytest.mark.parametrize("name", ["000000000_002.png", "000000000_000.jpg", "000000000_000.xml"])
def test_a_member_of_another_name_is_refused(members: Members, index: int, name: str) -> None:
    renamed = [*members[:index], (name, members[index][1]), *members[index + 1 :]]
    with refused(CorruptError, WHERE, "render the shard again"):
        walk(packed_members(renamed))


def test_views_whose_names_are_no_keys_are_refused(views: list[View]) -> None:
    strange = [View(row=replace(views[0].row, key="fox"), image=views[0].image)]
    with refused(CorruptError, WHERE, "'fox' is not a key", "render the shard again"):
        walk(packed(strange))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.AREGTYPE]
)
def test_a_member_that_is_no_regular_file_is_refused(members: Members, kind: bytes) -> None:
    def change(member: tarfile.TarInfo) -> None:
        if member.name == "000000000_001.png":
            member.type, member.linkname = kind, "000000000_000.png"

    with refused(CorruptError, WHERE, "'000000000_001.png' is no regular file"):
        walk(packed_members(members, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda member: setattr(member, "mtime", 1700000000),
        lambda member: setattr(member, "uid", 1000),
        lambda member: setattr(member, "gname", "staff"),
        lambda member: setattr(member, "mode", 0o755),
    ],
    ids=["clock", "owner", "group", "mode"],
)
def test_a_tar_with_a_clock_an_owner_or_another_mode_is_refused(
    members: Members, change: Callable[[tarfile.TarInfo], None]
) -> None:
    with refused(CorruptError, WHERE, "is no regular file as this format writes it"):
        walk(packed_members(members, change))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_of_another_format_is_refused(members: Members, format: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, pax_headers={"comment": "x"}) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with refused(CorruptError, WHERE):
        walk(file.getvalue())


def test_a_member_that_would_fill_the_memory_is_refused(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifests.tars.MAX_MEMBER_BYTES", 100)
    with refused(CorruptError, WHERE, "is no regular file as this format writes it"):
        walk(data)


def test_a_compressed_tar_is_refused(data: bytes) -> None:
    with refused(CorruptError, WHERE, "not a readable tar", "render the shard again"):
        walk(gzip.compress(data))


def test_an_image_that_is_not_the_one_of_its_row_is_refused(members: Members) -> None:
    swapped = [*members[:3], (members[3][0], b"another"), *members[4:]]
    with refused(CorruptError, WHERE, "image, row and text of 000000000_001 do not agree"):
        walk(packed_members(swapped))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "000000000_002"},
        {"text": "a red wolf"},
        {"format": "jpg"},
        {"status": "failed"},
        {"sha256": sha256(b"another").hexdigest()},
    ],
)
def test_a_row_that_is_not_the_one_of_its_image_is_refused(
    members: Members, changes: dict[str, str]
) -> None:
    text = canonical_json(json.loads(members[4][1]) | changes).encode()
    with refused(CorruptError, WHERE, "image, row and text of 000000000_001 do not agree"):
        walk(packed_members([*members[:4], (members[4][0], text), *members[5:]]))


@pytest.mark.parametrize(
    "picture", [b"", b"not an image", b"\x80\x04\x95\x10", png(30_000, 1, bytes(9)), png(8, 9, b"")]
)
def test_an_image_that_is_no_picture_of_its_size_is_refused(
    views: list[View], picture: bytes
) -> None:
    """The hashes fit: only the picture itself shows the fault."""
    row = replace(views[0].row, sha256=sha256(picture).hexdigest())
    with refused(CorruptError, f"{WHERE}, 000000000_000.png", "render the shard again"):
        walk(packed([View(row=row, image=picture), *views[1:]]))


def test_rows_of_a_newer_minor_version_are_read(members: Members, data: bytes) -> None:
    newer = [
        (name, canonical_json(json.loads(text) | {"aesthetic": 0.5}).encode())
        if name.endswith(".json")
        else (name, text)
        for name, text in members
    ]
    # The longer rows move the images that follow them, so positions are not compared.
    expected = [row.at(0, 0) for row in walk(data).rows]
    assert [row.at(0, 0) for row in walk(packed_members(newer)).rows] == expected


HEAD = canonical_json({"recipe_sha256": RECIPE, "shard": 0, "num_views": 3})


@pytest.mark.parametrize(
    "trailer",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"num_views":3,"recipe_sha256":"ab"}',
        HEAD.replace("3", '"3"'),
        HEAD.replace("3", "4"),
        HEAD + "\n",
        HEAD + "\n{}",
        HEAD + "\n" + "[" * 100_000,
    ],
)
def test_a_trailer_that_does_not_account_for_the_views_is_refused(
    members: Members, trailer: str
) -> None:
    with refused(CorruptError, WHERE):
        walk(with_trailer(members, trailer))


@pytest.mark.parametrize(
    "changes", [{"status": "ok"}, {"reason": ""}, {"sha256": sha256(b"image").hexdigest()}]
)
def test_a_failed_row_that_did_not_fail_is_refused(
    members: Members, changes: dict[str, str]
) -> None:
    head, failed = members[-1][1].decode().split("\n")
    text = canonical_json(json.loads(failed) | changes)
    with refused(CorruptError, WHERE, "000000001_001, which did not fail"):
        walk(with_trailer(members, f"{head}\n{text}"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(value=JSON, name=st.sampled_from(["trailer", *ViewRow.__slots__, "steps"]))
@settings(max_examples=150)
def test_a_hostile_tar_is_refused_or_read_as_a_whole_and_raises_nothing_else(
    members: Members, name: str, value: object
) -> None:
    """Any value may stand in a row or in the trailer; each fault is a CorruptError of one line."""
    if name == "trailer":
        hostile = with_trailer(members, json.dumps(value))
    else:
        text = json.dumps(json.loads(members[1][1]) | {name: value}).encode()
        hostile = packed_members([members[0], (members[1][0], text), *members[2:]])
    with suppress(CorruptError):
        assert len(walk(hostile).rows) == 4


@given(
    st.text(alphabet="ab0_.\u00e9", min_size=1, max_size=50).filter(lambda name: name[0] != "."),
    st.integers(min_value=0, max_value=8**11 - 1),
)
def test_a_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    assert header_of(name, size) == member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("x", 8**11)])
def test_members_that_a_header_cannot_hold(name: str, size: int) -> None:
    with refused(ContractError, "no name and size of a member"):
        header_of(name, size)
