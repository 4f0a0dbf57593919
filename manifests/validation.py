"""Check a set against every invariant of SPEC.md: all problems, not only the first."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from manifests.canonical import document_bytes, sha256_hex
from manifests.errors import CorruptError
from manifests.foundation.errors import SynthError
from manifests.ids import canonical_text, group_id
from manifests.layout import RECIPE, SEAL, shard_number
from manifests.manifest import Manifest
from manifests.plan import ViewRequest, hash_prompts
from manifests.rows import ViewRow
from manifests.schema import NO_HASH, NO_OFFSET, REASONS, STATUSES
from manifests.seal import Seal, ShardSummary
from manifests.shard_set import ShardSet
from manifests.tars import walk_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a shard set."""

    where: str
    """File, or file and key, relative to the set."""
    kind: str
    """Stable name to dispatch on, such as `CorruptError` or `seed`."""
    message: str
    """What was found, what was expected, what to do."""


def validate_shard_set(
    shards: ShardSet, *, on_shard: Callable[[int], None] = lambda shard: None
) -> Iterator[Problem]:
    """Every problem of a set, as it is found. Reads every byte.

    A set that is not sealed is judged by what is committed.

    Args:
        on_shard: Called after each committed shard, for a progress bar.
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


def _problem(where: str, exc: Exception) -> Problem:
    return Problem(where=where, kind=type(exc).__name__, message=str(exc))


def _check_plan(shards: ShardSet) -> Iterator[Problem]:
    recipe = shards.recipe
    data = shards.store.read(RECIPE)
    if document_bytes(json.loads(data)) != data:
        yield Problem(where=RECIPE, kind="canonical", message="its bytes were changed")
    for path, expected in recipe.prompt_files.items():
        try:
            found = sha256_hex(shards.store.read(path))
        except FileNotFoundError:
            found = "nothing"
        if found != expected:
            yield Problem(where=path, kind="hash", message=f"hash {found}, expected {expected}")
    try:
        prompts = shards.all_prompts()
    except SynthError as exc:
        yield _problem("prompts", exc)
        return
    if hash_prompts(prompts) != recipe.identity.prompts_sha256:
        yield Problem(where="prompts", kind="hash", message="not the prompts of the recipe")
    for index, prompt in enumerate(prompts):
        right = (index, group_id("caption", prompt.prompt), canonical_text(prompt.prompt))
        if (prompt.group_index, prompt.group_id, prompt.prompt) != right:
            yield Problem(
                where=f"prompts, row {index}",
                kind="group",
                message="group index, group id or text is not what SPEC.md derives",
            )


def _check_shard(shards: ShardSet, shard: int) -> Iterator[Problem]:
    try:
        manifest = shards.manifest(shard)
        requests = shards.requests(shard)
    except SynthError as exc:
        yield _problem(shards.layout.manifest(shard), exc)
        return
    yield from _check_rows(shards, shards.layout.manifest(shard), manifest.rows, requests)
    yield from _check_tar(shards, manifest)


def _check_rows(
    shards: ShardSet, where: str, rows: Sequence[ViewRow], requests: Sequence[ViewRequest]
) -> Iterator[Problem]:
    if [row.key for row in rows] != [request.key for request in requests]:
        yield Problem(where=where, kind="keys", message="its keys are not those of the plan")
        return
    identity = shards.recipe.identity
    made = {
        name: identity.renderer_identity[name]
        for name in ("model", "revision", "scheduler", "steps")
        if name in identity.renderer_identity
    }
    made |= {"format": identity.image["format"]} if "format" in identity.image else {}
    for row, request in zip(rows, requests, strict=True):
        prompt = request.prompt
        expected = made | {
            "group_id": prompt.group_id,
            "view_index": request.view_index,
            "prompt": prompt.prompt,
            "label": prompt.label,
            "licence": prompt.licence,
            "source": prompt.source,
            "guidance_scale": request.guidance_scale,
            "seed": request.seed,
        }
        for name, value in expected.items():
            if (found := getattr(row, name)) != value:
                message = f"{name} is {found!r}, plan and recipe say {value!r}"
                yield Problem(where=f"{where}, {row.key}", kind=name, message=message)
        yield from _check_status(f"{where}, {row.key}", row)


def _check_status(where: str, row: ViewRow) -> Iterator[Problem]:
    if row.status not in STATUSES or row.reason not in REASONS:
        message = f"status {row.status!r} with reason {row.reason!r} is in no list"
        yield Problem(where=where, kind="status", message=message)
    elif row.is_ok != (row.reason == ""):
        yield Problem(where=where, kind="status", message="status and reason do not agree")
    elif row.is_ok == ((row.sha256, row.offset, row.length) == (NO_HASH, NO_OFFSET, 0)):
        yield Problem(where=where, kind="status", message="status and image do not agree")


def _check_tar(shards: ShardSet, manifest: Manifest) -> Iterator[Problem]:
    path = shards.layout.tar(manifest.shard)
    try:
        digest, size = sha256(), 0
        with shards.store.open(path) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                size += len(piece)
    except FileNotFoundError:
        yield Problem(where=path, kind="missing", message="the manifest commits it, it is gone")
        return
    if (size, digest.hexdigest()) != (manifest.tar_bytes, manifest.tar_sha256):
        message = (
            f"{size} bytes with hash {digest.hexdigest()}, the manifest says "
            f"{manifest.tar_bytes} with {manifest.tar_sha256}"
        )
        yield Problem(where=path, kind="hash", message=message)
    try:
        with shards.store.open(path) as file:
            walked = walk_tar(file, where=path)
    except CorruptError as exc:
        yield _problem(path, exc)
        return
    mine = (manifest.recipe_sha256, manifest.shard, len(manifest.rows))
    if (walked.recipe_sha256, walked.shard, len(walked.rows)) != mine:
        message = "recipe, shard or number of rows are not those of the manifest"
        yield Problem(where=path, kind="row", message=message)
    for found, row in zip(walked.rows, manifest.rows, strict=False):
        if found != row:
            message = "the row in the tar is not the one in the manifest"
            yield Problem(where=f"{path}, {row.key}", kind="row", message=message)


def _check_seal(shards: ShardSet, seal: Seal, committed: Sequence[int]) -> Iterator[Problem]:
    layout = shards.layout
    if seal.recipe_sha256 != shards.recipe_sha256:
        yield Problem(where=SEAL, kind="recipe", message="seals another recipe")
    sealed = [each.shard for each in seal.shards]
    for shard in sorted({*sealed} ^ {*committed}):
        message = "committed but not sealed" if shard in committed else "sealed but gone"
        yield Problem(where=layout.manifest(shard), kind="missing", message=message)
    if sorted([*sealed, *seal.missing]) != list(range(layout.num_shards)):
        yield Problem(where=SEAL, kind="shards", message="does not account for every shard")
    for each in seal.shards:
        yield from _check_summary(shards, each)
    hashes = {layout.manifest(each.shard): each.manifest_sha256 for each in seal.shards}
    for path, expected in {**hashes, **seal.files}.items():
        try:
            found = sha256_hex(shards.store.read(path))
        except FileNotFoundError:
            found = "nothing"
        if found != expected:
            yield Problem(where=path, kind="hash", message=f"hash {found}, expected {expected}")
    for path in shards.store.list("data"):
        if path.endswith(".tar") and shard_number(path) not in sealed:
            message = "no manifest names this tar, and stock readers would read it; remove it"
            yield Problem(where=path, kind="uncommitted", message=message)


def _check_summary(shards: ShardSet, sealed: ShardSummary) -> Iterator[Problem]:
    try:
        manifest = shards.manifest(sealed.shard)
    except (SynthError, FileNotFoundError):
        return  # told already
    found = (manifest.tar_sha256, manifest.tar_bytes, len(manifest.rows), manifest.num_ok)
    if found != (sealed.tar_sha256, sealed.tar_bytes, sealed.num_views, sealed.num_ok):
        message = f"its line for shard {sealed.shard} is not what the manifest says"
        yield Problem(where=SEAL, kind="shards", message=message)
