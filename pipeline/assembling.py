"""A set whose views all lie in sealed sets: they are taken and committed, nothing is rendered.

Threads of this process do it, since it is reading and writing. What is done already is what has a
manifest, so the same call continues where a killed one stopped.
"""

import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.columns import of_scope
from manifests.errors import ContractError, CorruptError
from manifests.foundation.errors import ConfigError
from manifests.manifest import Manifest
from manifests.origin import Origin, Part
from manifests.rows import SubjectRow
from manifests.shard_set import ShardSet
from manifests.storage import Store
from manifests.taking import SealedSet, Taking
from pipeline.committing import commit_views
from pipeline.machine_paths import recall, remember
from pipeline.shard_report import ShardReport
from prompts.merging import MergedSubjects
from prompts.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A new set that was begun, and what remains to be taken for it."""

    shards: ShardSet
    taking: Taking
    todo: Sequence[int]
    """Shards that are not committed, ascending."""

    def run(self, num_workers: int) -> Iterator[ShardReport]:
        """Take and commit what is left. Raises as `assemble_all`."""
        self.shards.plan.require(self.todo)
        yield from assemble_all(self.shards, self.taking, self.todo, num_workers=num_workers)


def begin_assembly(
    sets: Sequence[SealedSet],
    store: Store,
    subjects: MergedSubjects,
    places: NDArray[np.integer[Any]],
    *,
    verb: str,
    part: Part | None = None,
) -> Assembly:
    """Begin a set of some groups of sealed sets of one recipe, or resume it.

    Args:
        store: Where the new set is, or is to be.
        subjects: The plan of the new set.
        places: Of each of its groups the index among those of all sets, counted through.
        verb: The command, for the recipe.
        part: Which part of a set it is.

    Raises:
        ContractError: The new set would lie in one of the others.
        ForeignSetError: The URL holds other files.
        IdentityError: It holds another set.
        StoreError: Files cannot be created there.
    """
    require_apart(sets, store)
    first = sets[0].shards.recipe
    identity = replace(first.identity, num_subjects=len(subjects), subjects_sha256=subjects.sha256)
    shards = ShardSet.begin(
        store,
        identity,
        subjects,
        environment=shared_environment([one.shards.recipe.environment for one in sets]),
        settings=first.settings,
        origin=Origin(verb=verb, sets=tuple(one.source for one in sets), part=part),
    )
    remember(shards.recipe_sha256, recall(sets[0].shards.recipe_sha256))
    return Assembly(
        shards=shards,
        taking=Taking(sets, lambda group: int(places[group])),
        todo=shards.committed().missing() if shards.seal() is None else (),
    )


def require_apart(sets: Sequence[SealedSet], store: Store) -> None:
    """Refuse a new set that would lie in one that it is made from, or around it."""
    for one in sets:
        old = one.shards.store
        if old.holds(store) or store.holds(old):
            raise ContractError(
                f"{store.url}: lies in {old.url} or around it, which does not change any more; "
                "give an --out apart from it"
            )


def require_complete(sealed: SealedSet) -> None:
    """Refuse a set that was sealed with shards missing. Raises ConfigError."""
    if sealed.seal.missing:
        raise ConfigError(
            f"{sealed.shards.store.url}: was sealed without {len(sealed.seal.missing)} of its "
            "shards; `synth grow` with --out alone renders them into a new set, take that"
        )


def subjects_of(sealed: SealedSet, rows: Iterable[SubjectRow] | None = None) -> Iterator[Subject]:
    """The plan of a sealed set as a prompt source gives it.

    Args:
        rows: Some of its subjects; all if not given.
    """
    names = [column.name for column in of_scope(sealed.identity.columns, "subject")]
    for row in sealed.shards.all_subjects() if rows is None else rows:
        yield Subject(
            text=row.text,
            kind=row.kind,
            label=row.label,
            licence=row.licence,
            source=row.source,
            values={name: row.values[name] for name in names},
            num_rows=row.num_merged,
            where=f"{sealed.shards.store.url}, subject {row.group_index}",
        )


def shared_environment(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the recipe of a set says whose views were made in several environments.

    That of the first, without the versions that are not the same in all of them: a version that is
    recorded has made every view.
    """
    shared = dict(environments[0])
    versions: list[Any] = [one.get("versions") for one in environments]
    if all(isinstance(one, Mapping) for one in versions):
        shared["versions"] = {
            name: version
            for name, version in versions[0].items()
            if all(one.get(name) == version for one in versions)
        }
    if any(one.get("machine") != shared.get("machine") for one in environments):
        shared.pop("machine", None)
    return shared


def assemble_all(
    shards: ShardSet, taking: Taking, numbers: Sequence[int], *, num_workers: int
) -> Iterator[ShardReport]:
    """Commit some shards of a new set, and yield a report of each.

    Args:
        num_workers: Shards that are taken at once, each with its images in memory.

    Raises:
        CorruptError: A view lies in no set, or not as its seal says.
        StoreError: One of the storages refuses.
    """
    queue = iter(numbers)
    running: set[Future[ShardReport]] = set()
    with ThreadPoolExecutor(num_workers, thread_name_prefix="assemble") as pool:
        while True:
            # Not all at once: after an error, or when the caller stops, no shard is begun any more.
            for shard in queue:
                running.add(pool.submit(assemble, shards, taking, shard))
                if len(running) == num_workers:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def assemble(shards: ShardSet, taking: Taking, shard: int) -> ShardReport:
    """Take all views of one shard and commit it."""
    start = time.perf_counter()
    requests = shards.requests(shard)
    views = taking.views(shards.recipe.identity, requests)
    for request in requests:
        if request.key not in views:
            raise CorruptError(
                f"{shards.store.url}: view {request.key} lies in none of the sets that it is made "
                "from; a shard is missing there: complete it with `synth grow` first"
            )

    def report(manifest: Manifest) -> ShardReport:
        total_s = time.perf_counter() - start
        return ShardReport(
            shard=shard,
            num_views=len(manifest.rows),
            num_ok=manifest.num_ok,
            tar_bytes=manifest.tar_bytes,
            wait_s=0.0,
            render_s=0.0,
            encode_s=0.0,
            commit_s=round(total_s, 3),
            total_s=round(total_s, 3),
            finished_at=round(time.time(), 3),
            errors=(),
            storage_repeats=0,
            host=socket.gethostname(),
            num_taken=len(requests),
        )

    return commit_views(shards, shard, requests, views, report)
