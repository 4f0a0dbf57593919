"""Which files a copy of a sealed set consists of, and whether the target may hold it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from manifests.canonical import sha256_hex
from manifests.derived import derived_hashes
from manifests.errors import ContractError, CorruptError, ForeignSetError
from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.layout import NUMBERED_FOLDERS, RECIPE, SEAL, is_read_by_glob
from manifests.seal import Seal, parse_seal
from manifests.shard_set import ShardSet
from manifests.storage import Store

SOURCE_ADVICE = (
    "restore it from a copy or render the set again; `synth verify` lists all that is wrong"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFile:
    """A file that the seal names, or the seal."""

    path: str
    sha256: str
    size_bytes: int
    """As the source lists it; the seal has sizes of tars alone, and they are compared with it."""

    def is_right(self, actual: tuple[str, int]) -> bool:
        """Whether this hash and this size in bytes are those of the file."""
        return actual == (self.sha256, self.size_bytes)

    def require(self, store: Store, actual: tuple[str, int], advice: str) -> None:
        """Refuse a file that was read from a store if it has another hash or size.

        Args:
            actual: Hash and size in bytes of what was read.
            advice: What to do about a wrong file, for the message.

        Raises:
            CorruptError: Hash or size differ.
        """
        if not self.is_right(actual):
            raise CorruptError(
                f"{store.at(self.path)}: {actual[1]} bytes with hash {actual[0]}, the seal says "
                f"{self.size_bytes} with {self.sha256}; {advice}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A copy of a set that can be made, and which of its files are at the target already."""

    source: Store
    target: Store
    seal: Seal
    stages: Sequence[Sequence[Sequence[SetFile]]]
    """Stages of chains of files. A stage begins when the one before it is done. Its chains may be
    copied at once and in any order; the files of a chain are copied one after the other."""
    present: frozenset[str]
    """Paths of the files that are at the target already. They have the right size; their content is
    still to be compared."""

    @property
    def files(self) -> list[SetFile]:
        """All files of the copy, in the order of their stages."""
        return [file for stage in self.stages for chain in stage for file in chain]


def plan_publication(source: ShardSet, target: Store) -> Publication:
    """Compare source and target by the names and sizes of their files. Writes nothing.

    Raises:
        ContractError: The source is not sealed, or the target lies in it.
        CorruptError: A file of the source is gone or has another size than the seal says; or the
            target has one of another size.
        ForeignSetError: The target holds files that are no part of this copy.
        StoreError: Files cannot be created safely in a storage like the target's.
    """
    target.require_creatable()
    if source.store.holds(target):
        raise ContractError(
            f"{target.url}: lies in the set that is to be copied, {source.store.url}; give a "
            "target outside of it"
        )
    seal, stages = _seal_and_stages(source)
    files = {file.path: file for stage in stages for chain in stage for file in chain}
    # All folders that readers look into are listed, also those that the copy has no file for.
    sizes = _sizes(target, {*NUMBERED_FOLDERS, *_folders(files)})
    _require_part_of_copy(target, files, sizes)
    return Publication(
        source=source.store,
        target=target,
        seal=seal,
        stages=stages,
        present=frozenset(files.keys() & sizes.keys()),
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
    plan = sorted(source.recipe.subject_files)
    if seal.recipe_sha256 != source.recipe_sha256 or not {RECIPE, *plan} <= seal.files.keys():
        raise CorruptError(
            f"{store.at(SEAL)}: does not seal this recipe and its plan; {SOURCE_ADVICE}"
        )
    derived = derived_hashes(source.recipe, seal)
    hashes = dict(seal.files) | derived
    shards = []
    for summary in seal.shards:
        tar, manifest = layout.tar(summary.shard), layout.manifest(summary.shard)
        hashes |= {tar: summary.tar_sha256, manifest: summary.manifest_sha256}
        shards.append([tar, manifest])
    # The seal comes from outside: a path in it must not lead out of the target.
    for path in hashes:
        parts = PurePosixPath(path).parts
        hidden = PurePosixPath(path).name.startswith(TEMPORARY_PREFIX)
        if not path or "/".join(parts) != path or ".." in parts or path == SEAL or hidden:
            raise CorruptError(
                f"{store.at(SEAL)}: names {path!r}, no file of a set; {SOURCE_ADVICE}"
            )

    sizes = _sizes(store, _folders(hashes))
    for path in hashes:
        if path not in sizes:
            raise CorruptError(
                f"{store.at(path)}: the sealed set has it and it is gone; {SOURCE_ADVICE}"
            )
    for summary in seal.shards:
        if sizes[tar := layout.tar(summary.shard)] != summary.tar_bytes:
            raise CorruptError(
                f"{store.at(tar)}: {sizes[tar]} bytes, the seal says {summary.tar_bytes}; "
                f"{SOURCE_ADVICE}"
            )

    def chain(*paths: str) -> list[SetFile]:
        return [SetFile(path=path, sha256=hashes[path], size_bytes=sizes[path]) for path in paths]

    # At every moment the copy is a set that is still being made: no file comes before those that it
    # vouches for. A manifest follows its tar, and the seal follows everything.
    stages = [
        [chain(RECIPE)],
        [chain(path) for path in plan],
        [chain(*paths) for paths in shards],
        [chain(path) for path in (*seal.files, *derived) if path not in (RECIPE, *plan)],
        [[SetFile(path=SEAL, sha256=sha256_hex(data), size_bytes=len(data))]],
    ]
    return seal, stages


def _require_part_of_copy(
    target: Store, files: Mapping[str, SetFile], sizes: Mapping[str, int]
) -> None:
    """Refuse a target with files that would conflict with this copy.

    Args:
        files: The files of the copy by path.
        sizes: Size in bytes of each file at the target, by path.

    Raises:
        ForeignSetError: The target holds other files, another set, or a file that readers would
            take for one of this set.
        CorruptError: A file has another size than in the copy.
    """
    foreign = () if RECIPE in sizes else target.names()
    if foreign and not target.exists(RECIPE):  # another copy may have begun meanwhile
        raise ForeignSetError(
            f"{target.url}: holds {foreign[0]} but no shard set; choose an empty folder"
        )
    for path in (RECIPE, SEAL):
        if path in sizes and not _reads_as(target, files[path]):
            raise ForeignSetError(
                f"{target.at(path)}: belongs to another set; nothing is overwritten: choose an "
                "empty folder"
            )
    for path, size in sizes.items():
        if path not in files and is_read_by_glob(path):
            raise ForeignSetError(
                f"{target.at(path)}: is no file of the set that is copied, and readers would take "
                "it for one; remove it, or choose an empty folder"
            )
        if path in files and size != (expected := files[path].size_bytes):
            raise CorruptError(
                f"{target.at(path)}: {size} bytes, the file that is copied has {expected}; "
                f"{TARGET_ADVICE}"
            )


TARGET_ADVICE = (
    "nothing is overwritten: remove it and run the same command again, or choose an empty folder"
)


def _reads_as(store: Store, file: SetFile) -> bool:
    """Whether one of two readings gives the right bytes, because a bit may flip on the way."""
    return any(sha256_hex(store.read(file.path)) == file.sha256 for _ in range(2))


def _sizes(store: Store, folders: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for folder in sorted({*folders}):
        sizes |= store.list(folder)
    return sizes


def _folders(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}
