"""What a copy of a sealed set consists of, and whether a place may hold it. Writes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from manifests.canonical import sha256_hex
from manifests.errors import ContractError, CorruptError, ForeignSetError
from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.layout import NUMBERED_FOLDERS, RECIPE, SEAL, shard_number
from manifests.seal import Seal, parse_seal
from manifests.shard_set import ShardSet
from manifests.storage import Store

MEND = "restore it from a copy or render the set again; `synth verify` tells all that is wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFile:
    """A file that the seal names, or the seal."""

    path: str
    sha256: str
    size_bytes: int
    """What the source lists; for a tar the seal says the same."""

    def require(self, store: Store, found: tuple[str, int], advice: str) -> None:
        """Refuse a file with another hash or size, which a store was found to hold."""
        if found != (self.sha256, self.size_bytes):
            raise CorruptError(
                f"{store.at(self.path)}: {found[1]} bytes with hash {found[0]}, the seal says "
                f"{self.size_bytes} with {self.sha256}; {advice}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A copy that may be made."""

    source: Store
    target: Store
    seal: Seal
    stages: Sequence[Sequence[Sequence[SetFile]]]
    """A stage begins when the one before is done; its chains are independent, a chain is not."""
    present: frozenset[str]
    """Paths at the target; their sizes are right."""

    @property
    def files(self) -> list[SetFile]:
        return [file for stage in self.stages for chain in stage for file in chain]


def plan_publication(source: ShardSet, target: Store) -> Publication:
    """Look at both ends.

    Raises:
        ContractError: The source is not sealed, or the target lies in it.
        CorruptError: A file of the source is gone or has another size than the seal says; or the
            target has one of another size.
        ForeignSetError: The target holds something else than a part of this copy.
        StoreError: The target's scheme cannot be written to.
    """
    target.require_creatable()
    if source.store.holds(target):
        raise ContractError(
            f"{target.url}: lies in the set that is to be copied, {source.store.url}; give a "
            "place outside of it"
        )
    seal, stages = _seal_and_stages(source)
    wanted = {file.path: file for stage in stages for chain in stage for file in chain}
    found = _sizes(target, {*NUMBERED_FOLDERS, *_folders(wanted)})
    _require_part_of_copy(target, wanted, found)
    return Publication(
        source=source.store,
        target=target,
        seal=seal,
        stages=stages,
        present=frozenset(wanted.keys() & found.keys()),
    )


def _seal_and_stages(source: ShardSet) -> tuple[Seal, list[list[list[SetFile]]]]:
    store, layout = source.store, source.layout
    try:
        data = store.read(SEAL)
    except FileNotFoundError as exc:
        raise ContractError(
            f"{store.url}: is not sealed, {len(source.committed())} of {layout.num_shards} shards "
            "are committed; run the same `synth generate` again, or with --seal-incomplete"
        ) from exc
    seal = parse_seal(data, where=store.at(SEAL))
    plan = sorted(source.recipe.prompt_files)
    if seal.recipe_sha256 != source.recipe_sha256 or not {RECIPE, *plan} <= seal.files.keys():
        raise CorruptError(f"{store.at(SEAL)}: does not seal this recipe and its plan; {MEND}")
    hashes = dict(seal.files)
    shards = []
    for each in seal.shards:
        tar, manifest = layout.tar(each.shard), layout.manifest(each.shard)
        hashes |= {tar: each.tar_sha256, manifest: each.manifest_sha256}
        shards.append([tar, manifest])
    for path in hashes:
        parts = PurePosixPath(path).parts
        hidden = PurePosixPath(path).name.startswith(TEMPORARY_PREFIX)
        if not path or "/".join(parts) != path or ".." in parts or path == SEAL or hidden:
            raise CorruptError(f"{store.at(SEAL)}: names {path!r}, no file of a set; {MEND}")

    sizes = _sizes(store, _folders(hashes))
    for path in hashes:
        if path not in sizes:
            raise CorruptError(f"{store.at(path)}: the seal names it and it is gone; {MEND}")
    for each in seal.shards:
        if sizes[tar := layout.tar(each.shard)] != each.tar_bytes:
            raise CorruptError(
                f"{store.at(tar)}: {sizes[tar]} bytes, the seal says {each.tar_bytes}; {MEND}"
            )

    def chain(*paths: str) -> list[SetFile]:
        return [SetFile(path=each, sha256=hashes[each], size_bytes=sizes[each]) for each in paths]

    stages = [
        [chain(RECIPE)],
        [chain(path) for path in plan],
        [chain(*paths) for paths in shards],
        [chain(path) for path in seal.files if path not in (RECIPE, *plan)],
        [[SetFile(path=SEAL, sha256=sha256_hex(data), size_bytes=len(data))]],
    ]
    return seal, stages


def _require_part_of_copy(
    target: Store, wanted: Mapping[str, SetFile], found: Mapping[str, int]
) -> None:
    foreign = () if RECIPE in found else target.names()
    if foreign and not target.exists(RECIPE):  # another copy may have begun meanwhile
        raise ForeignSetError(
            f"{target.url}: holds {foreign[0]} but no shard set; choose an empty folder"
        )
    for path in (RECIPE, SEAL):
        if path in found and sha256_hex(target.read(path)) != wanted[path].sha256:
            raise ForeignSetError(
                f"{target.at(path)}: belongs to another set; nothing is overwritten: choose an "
                "empty folder"
            )
    for path, size in found.items():
        # Stock readers take every tar that they find, ours every manifest.
        if path not in wanted and shard_number(path) is not None:
            raise ForeignSetError(
                f"{target.at(path)}: is no file of the set that is copied; remove it, or choose an "
                "empty folder"
            )
        if path in wanted and size != (expected := wanted[path].size_bytes):
            raise CorruptError(
                f"{target.at(path)}: {size} bytes, the file that is copied has {expected}; {KEPT}"
            )


KEPT = "nothing is overwritten: remove it and run the same command again, or choose an empty folder"


def _sizes(store: Store, folders: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for folder in sorted({*folders}):
        sizes |= store.list(folder)
    return sizes


def _folders(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}
