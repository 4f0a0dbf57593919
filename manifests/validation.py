"""Check a set against every invariant of SPEC.md, and report all problems, not only the first."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from manifests.about import AboutCounter, facts_of
from manifests.canonical import document_bytes, hash_stream
from manifests.columns import of_scope
from manifests.derived import derived_hashes
from manifests.foundation.errors import SynthError
from manifests.ids import canonical_text, group_id
from manifests.index import INDEX_SCHEMA, index_of
from manifests.layout import NUMBERED_FOLDERS, RECIPE, SEAL, SHARDS_PER_FILE, is_read_by_glob
from manifests.manifest import Manifest
from manifests.plan import ViewRequest, expected_values, hash_subjects
from manifests.recipe import Identity
from manifests.rereading import reread
from manifests.rows import SubjectRow, ViewRow
from manifests.schema import NO_OFFSET, NOT_DRAWN, RENDER_ERROR, STATUSES
from manifests.seal import Seal, ShardSummary
from manifests.shard_numbers import ShardNumbers
from manifests.shard_set import ShardSet
from manifests.tables import read_table
from manifests.tars import WalkedTar, walk_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a shard set."""

    where: str
    """File, or file and key, relative to the set."""
    kind: str
    """Stable name to dispatch on, such as `CorruptError` or `seed`."""
    message: str
    """What was found and what was expected, in one line."""


def validate_shard_set(
    shards: ShardSet, *, on_shard: Callable[[int], None] = lambda shard: None
) -> Iterator[Problem]:
    """Read every byte of a set and yield its problems one by one.

    In a set that is not sealed only the committed shards are checked.

    Args:
        on_shard: Called with the number of each committed shard after it was checked.
    """
    try:
        seal = shards.seal()
    except SynthError as exc:
        yield _problem(SEAL, exc)
        seal = None
    yield from _check_plan(shards)
    committed = shards.committed()
    for shard in committed:
        yield from _check_shard(shards, shard)
        on_shard(shard)
    if seal is not None:
        yield from _check_seal(shards, seal, committed)
    yield from _check_names(shards, seal)


def _problem(where: str, exc: Exception) -> Problem:
    return Problem(where=where, kind=type(exc).__name__, message=str(exc))


def _check_plan(shards: ShardSet) -> Iterator[Problem]:
    recipe = shards.recipe
    data = shards.store.read(RECIPE)
    # The hash in a recipe covers the identity alone. At least the form of the rest is checked here.
    if document_bytes(json.loads(data)) != data:
        yield Problem(where=RECIPE, kind="canonical", message="its bytes were changed")
    if sorted(recipe.subject_files) != shards.layout.subject_files():
        message = "does not name the files of the plan that its number of shards calls for"
        yield Problem(where=RECIPE, kind="plan", message=message)
    for path, expected in recipe.subject_files.items():
        yield from _check_hash(shards, path, expected)
    problems: list[Problem] = []
    count = 0

    # Subjects are checked while they are hashed, so that the plan is read only once.
    def checked() -> Iterator[SubjectRow]:
        nonlocal count
        for subject in shards.all_subjects():
            problems.extend(_check_subject(subject, count))
            count += 1
            yield subject

    try:
        digest = hash_subjects(checked(), recipe.identity.columns)
    except SynthError as exc:
        yield from problems
        yield _problem("subjects", exc)
        return
    yield from problems
    if digest != recipe.identity.subjects_sha256:
        yield Problem(where="subjects", kind="hash", message="not the subjects of the recipe")
    if count != recipe.identity.num_subjects:
        message = f"{count} subjects, the recipe says {recipe.identity.num_subjects}"
        yield Problem(where="subjects", kind="count", message=message)


def _check_hash(shards: ShardSet, path: str, expected: str) -> Iterator[Problem]:
    try:
        actual = _hash_of(shards, path)
        if actual != expected:
            actual = _hash_of(shards, path)  # a bit may have flipped on the way
    except FileNotFoundError:
        actual = "nothing"
    except SynthError as exc:
        yield _problem(path, exc)
        return
    if actual != expected:
        yield Problem(where=path, kind="hash", message=f"hash {actual}, expected {expected}")


def _hash_of(shards: ShardSet, path: str) -> str:
    with shards.store.open(path) as file:
        return hash_stream(file)[0]


def _check_subject(subject: SubjectRow, index: int) -> Iterator[Problem]:
    text = canonical_text(subject.text)
    expected = (index, group_id(subject.kind, text), text)
    if (subject.group_index, subject.group_id, subject.text) != expected:
        message = "group index, group id or text is not what SPEC.md derives"
        yield Problem(where=f"subjects, row {index}", kind="group", message=message)


def _check_shard(shards: ShardSet, shard: int) -> Iterator[Problem]:
    where = shards.layout.manifest(shard)
    try:
        manifest = shards.manifest(shard)
        requests = shards.requests(shard)
    except FileNotFoundError:  # deleted after it was listed
        yield Problem(where=where, kind="missing", message="it was there a moment ago and is gone")
        return
    except SynthError as exc:
        yield _problem(where, exc)
        return
    yield from _check_rows(shards.recipe.identity, where, manifest.rows, requests)
    yield from _check_tar(shards, manifest)


def _check_rows(
    identity: Identity, where: str, rows: Sequence[ViewRow], requests: Sequence[ViewRequest]
) -> Iterator[Problem]:
    # Without equal keys the rows cannot be matched with their requests, so no value is compared.
    if [row.key for row in rows] != [request.key for request in requests]:
        yield Problem(where=where, kind="keys", message="its keys are not those of the plan")
        return
    for row, request in zip(rows, requests, strict=True):
        for name, value in expected_values(identity, request).items():
            if (actual := row.get(name)) != value:
                message = f"{name} is {actual!r:.200}, plan and recipe say {value!r:.200}"
                yield Problem(where=f"{where}, {row.key}", kind=name, message=message)
        yield from _check_status(f"{where}, {row.key}", row, identity)


def _check_status(where: str, row: ViewRow, identity: Identity) -> Iterator[Problem]:
    if row.status not in STATUSES or row.reason not in (
        "",
        RENDER_ERROR,
        NOT_DRAWN,
        *identity.reasons,
    ):
        message = f"status {row.status!r} with reason {row.reason!r} is in no list"
        yield Problem(where=where, kind="status", message=message)
    elif row.is_ok != (row.reason == ""):
        yield Problem(where=where, kind="status", message="status and reason do not agree")
    elif (row.is_ok and not row.sha256) or (
        not row.is_ok and (row.sha256, row.offset, row.length) != ("", NO_OFFSET, 0)
    ):
        yield Problem(where=where, kind="status", message="status and image do not agree")
    if row.reason == RENDER_ERROR:
        for column in of_scope(identity.columns, "view"):
            if row.values[column.name] != column.zero():
                message = f"{column.name} is not {column.zero()!r} though nothing was rendered"
                yield Problem(where=where, kind=column.name, message=message)


def _check_tar(shards: ShardSet, manifest: Manifest) -> Iterator[Problem]:
    path = shards.layout.tar(manifest.shard)

    def read() -> tuple[str, int]:
        with shards.store.open(path) as file:
            return hash_stream(file)

    def walk() -> WalkedTar:
        with shards.store.open(path) as file:
            return walk_tar(file, manifest.columns, where=path)

    try:
        digest, size = read()
        if (size, digest) != (manifest.tar_bytes, manifest.tar_sha256):
            digest, size = read()  # a bit may have flipped on the way
        if (size, digest) != (manifest.tar_bytes, manifest.tar_sha256):
            message = (
                f"{size} bytes with hash {digest}, the manifest says "
                f"{manifest.tar_bytes} with {manifest.tar_sha256}"
            )
            yield Problem(where=path, kind="hash", message=message)
        tar = reread(walk)
    except FileNotFoundError:
        yield Problem(where=path, kind="missing", message="the manifest commits it, it is gone")
        return
    except SynthError as exc:
        yield _problem(path, exc)
        return
    committed = (manifest.recipe_sha256, manifest.shard, len(manifest.rows))
    if (tar.recipe_sha256, tar.shard, len(tar.rows)) != committed:
        message = "recipe, shard or number of rows are not those of the manifest"
        yield Problem(where=path, kind="row", message=message)
    # Not strict: a difference in number has a problem of its own by now.
    for in_tar, row in zip(tar.rows, manifest.rows, strict=False):
        if in_tar != row:
            message = "the row in the tar is not the one in the manifest"
            yield Problem(where=f"{path}, {row.key}", kind="row", message=message)


def _check_seal(shards: ShardSet, seal: Seal, committed: ShardNumbers) -> Iterator[Problem]:
    layout = shards.layout
    if seal.recipe_sha256 != shards.recipe_sha256:
        yield Problem(where=SEAL, kind="recipe", message="seals another recipe")
    sealed = [summary.shard for summary in seal.shards]
    accounted = sorted([*sealed, *seal.missing])
    # Otherwise the checks below would look for files of shards that the recipe does not have.
    if len(accounted) != layout.num_shards or accounted != list(range(layout.num_shards)):
        yield Problem(where=SEAL, kind="shards", message="does not account for every shard")
        return
    for shard in sorted({*sealed} ^ {*committed}):
        message = "committed but not sealed" if shard in committed else "sealed but gone"
        yield Problem(where=layout.manifest(shard), kind="missing", message=message)
    for required in (RECIPE, *layout.subject_files()):
        if required not in seal.files:
            yield Problem(where=SEAL, kind="files", message=f"does not name {required}")
    about = AboutCounter()
    is_counted = True
    for summary in seal.shards:
        try:
            manifest = shards.manifest(summary.shard)
        except (SynthError, FileNotFoundError):
            is_counted = False
            continue  # the manifest has its own problem already
        about.add(facts_of(manifest))
        yield from _check_summary(manifest, summary)
    if seal.about is not None and is_counted and about.result() != seal.about:
        message = "does not say of its subjects and views what the manifests say"
        yield Problem(where=SEAL, kind="about", message=message)
    if seal.index:
        yield from _check_index(shards, seal)
    hashes = {layout.manifest(summary.shard): summary.manifest_sha256 for summary in seal.shards}
    hashes |= derived_hashes(shards.recipe, seal)
    for path, expected in {**hashes, **seal.files}.items():
        yield from _check_hash(shards, path, expected)


def _check_summary(manifest: Manifest, sealed: ShardSummary) -> Iterator[Problem]:
    actual = (manifest.tar_sha256, manifest.tar_bytes, len(manifest.rows), manifest.num_ok)
    if actual != (sealed.tar_sha256, sealed.tar_bytes, sealed.num_views, sealed.num_ok):
        message = f"its line for shard {sealed.shard} is not what the manifest says"
        yield Problem(where=SEAL, kind="shards", message=message)


def _check_index(shards: ShardSet, seal: Seal) -> Iterator[Problem]:
    """The index says of each group what the manifests say."""
    by_file: dict[str, list[int]] = {}
    for summary in seal.shards:
        path = shards.layout.index(seal.root_sha256, summary.shard // SHARDS_PER_FILE)
        by_file.setdefault(path, []).append(summary.shard)
    if seal.index != sorted(by_file):
        yield Problem(where=SEAL, kind="index", message="its index is not that of its shards")
        return
    for path, numbers in by_file.items():
        try:
            stored = read_table(shards.store.read(path), INDEX_SCHEMA, where=path)[0]
            expected = pa.concat_tables([index_of(shards.manifest(shard)) for shard in numbers])
        except (SynthError, FileNotFoundError):
            continue  # the file, or a manifest, has its own problem already
        if not stored.equals(expected):
            message = "does not say what the manifests say"
            yield Problem(where=path, kind="index", message=message)


def _check_names(shards: ShardSet, seal: Seal | None) -> Iterator[Problem]:
    """Files that a reader's glob would take and that do not belong to the set.

    In a sealed set these are the files that the seal does not name. While a set is being made, they
    are the files whose names no shard of the set can have.
    """
    layout = shards.layout
    named: set[str] | None = None
    if seal is not None:
        named = {*seal.files, *(layout.tar(s.shard) for s in seal.shards)}
        named |= {layout.manifest(summary.shard) for summary in seal.shards}
    for folder in NUMBERED_FOLDERS:
        # Not only ordinary files: a glob takes folders, pipes and broken links as well.
        for path in (f"{folder}/{name}" for name in shards.store.names(folder)):
            if not is_read_by_glob(path):
                continue
            if named is None and layout.number(path) is None:
                message = f"no file of a set of {layout.num_shards} shards has this name; remove it"
                yield Problem(where=path, kind="foreign", message=message)
            elif named is not None and path not in named:
                message = "the seal does not name it, and readers that take every file would; "
                yield Problem(where=path, kind="foreign", message=f"{message}remove it")
