"""Views that a new set takes from sealed sets, which it grows from, merges or splits.

A view is a function of its request and the recipe, so the view of an equal request is the view.
Nothing is believed: the manifest must have the hash that the seal says, the row must say what the
new plan asks for, and the image must have the hash of its row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from manifests.canonical import sha256_hex
from manifests.errors import ContractError, CorruptError, IdentityError, VersionError
from manifests.ids import view_key
from manifests.manifest import Manifest, parse_manifest
from manifests.origin import SourceSet
from manifests.plan import ViewRequest, expected_values
from manifests.recipe import Identity
from manifests.rereading import reread
from manifests.rows import ViewRow
from manifests.schema import NO_OFFSET
from manifests.seal import Seal
from manifests.shard_set import ShardSet
from manifests.storage import Store
from manifests.tars import View

MAX_GAP_BYTES = 256 << 10
"""Images that are not wanted are read and dropped where they take less than this: a bucket needs
longer to answer another request."""
MAX_READ_BYTES = 32 << 20
"""Of a tar that are read at once."""

_ADVICE = "restore it from a copy; `synth verify` lists all that is wrong"


class SealedSet:
    """A set that does not change any more, with the seal that says what is in it."""

    def __init__(self, shards: ShardSet, seal: Seal) -> None:
        self.shards = shards
        self.seal = seal
        self._hashes = {summary.shard: summary.manifest_sha256 for summary in seal.shards}

    @classmethod
    def open(cls, url: str, *, root_sha256: str | None = None) -> "SealedSet":
        """The sealed set at a URL.

        Args:
            root_sha256: Refuse a set with another one.

        Raises:
            ContractError: It is not sealed.
            IdentityError: It has another root.
            CorruptError: The seal is not that of its recipe.
            VersionError: Its recipe has keys that this version could not write again.
        """
        shards = ShardSet.open(url)
        if unknown := sorted(shards.recipe.unknown):
            raise VersionError(
                f"{shards.store.url}: was made by a newer version, whose recipe also has "
                f"{', '.join(unknown)}; install a newer synth-rep to make a set from it"
            )
        seal = shards.seal()
        if seal is None:
            raise ContractError(
                f"{shards.store.url}: is not sealed, so it may still change; run the same `synth "
                "generate` again, or with --seal-incomplete"
            )
        if seal.recipe_sha256 != shards.recipe_sha256:
            raise CorruptError(f"{shards.store.url}: its seal is that of another recipe; {_ADVICE}")
        if root_sha256 not in (None, seal.root_sha256):
            raise IdentityError(
                f"{shards.store.url}: has root {seal.root_sha256[:16]}, expected "
                f"{root_sha256:.16}; another set lies there now"
            )
        return cls(shards, seal)

    @property
    def identity(self) -> Identity:
        return self.shards.recipe.identity

    @property
    def source(self) -> SourceSet:
        """Its name in the recipe of a set that takes its views."""
        return SourceSet(root_sha256=self.seal.root_sha256, recipe_sha256=self.shards.recipe_sha256)

    def has(self, shard: int) -> bool:
        """Whether the shard is not one that the seal names as missing."""
        return shard in self._hashes

    def manifest(self, shard: int) -> Manifest:
        """The manifest of a sealed shard, compared with the seal.

        Raises:
            CorruptError: It is gone, or is not the one that was sealed.
        """
        path, store = self.shards.layout.manifest(shard), self.shards.store

        def read() -> Manifest:
            data = store.read(path)
            if sha256_hex(data) != self._hashes[shard]:
                raise CorruptError(f"{store.at(path)}: is not what the seal says; {_ADVICE}")
            return parse_manifest(data, self.identity.columns, where=store.at(path))

        try:
            return reread(read)
        except FileNotFoundError as exc:
            raise CorruptError(f"{store.at(path)}: is gone; {_ADVICE}") from exc


class Taking:
    """Views of sealed sets by the requests of a new set.

    Args:
        sets: The sealed sets.
        place_of: From a group's index in the plan of the new set to its index among the groups of
            all sealed sets, counted through in their order; None for a group that none has.
    """

    def __init__(self, sets: Sequence[SealedSet], place_of: Callable[[int], int | None]) -> None:
        self._sets = sets
        self._place_of = place_of

    def holds(self, identity: Identity, shard: int) -> bool:
        """Whether all views of a shard of the new set can be taken."""
        for group in identity.subjects_in(shard):
            location = self._find(group)
            if location is None:
                return False
            source, place = location
            old = self._sets[source].identity
            if old.views_per_subject < identity.views_per_subject or not self._sets[source].has(
                place // old.subjects_per_shard
            ):
                return False
        return True

    def views(self, identity: Identity, requests: Iterable[ViewRequest]) -> dict[str, View]:
        """The views that the sealed sets hold, by key; failed ones too.

        Args:
            identity: That of the new set.

        Raises:
            CorruptError: A sealed set is not what it was, or says something else of a view.
        """
        wanted: dict[tuple[int, int], dict[str, ViewRequest]] = {}
        for request in requests:
            if (location := self._find(request.subject.group_index)) is None:
                continue
            source, place = location
            old = self._sets[source].identity
            shard = place // old.subjects_per_shard
            if request.view_index < old.views_per_subject and self._sets[source].has(shard):
                key = view_key(place, request.view_index)
                wanted.setdefault((source, shard), {})[key] = request
        views: dict[str, View] = {}
        for (source, shard), by_key in wanted.items():
            for view in _views_of(self._sets[source], shard, by_key, identity):
                views[view.row.key] = view
        return views

    def _find(self, group: int) -> tuple[int, int] | None:
        """Which set holds a group of the new plan, and the index of the group there."""
        place = self._place_of(group)
        if place is None:
            return None
        for source, one in enumerate(self._sets):
            if place < one.identity.num_subjects:
                return source, place
            place -= one.identity.num_subjects
        return None


def _views_of(
    sealed: SealedSet, shard: int, by_key: Mapping[str, ViewRequest], identity: Identity
) -> Iterator[View]:
    """Views of one shard of a sealed set, with the rows that they have in the new one."""
    manifest, shards = sealed.manifest(shard), sealed.shards
    rows = [row for row in manifest.rows if row.key in by_key]
    where = shards.store.at(shards.layout.manifest(shard))
    if len(rows) != len(by_key):
        raise CorruptError(f"{where}: lacks views of its plan; {_ADVICE}")
    for row in rows:
        request = by_key[row.key]
        for name, value in expected_values(identity, request).items():
            if (actual := row.get(name)) != value:
                raise CorruptError(
                    f"{where}, {row.key}: {name} is {actual!r:.100}, the plan that it is taken for "
                    f"says {value!r:.100}; {_ADVICE}"
                )
        if not row.is_ok:
            yield View(row=replace(row, key=request.key), image=None)
    for row, image in _images(shards, shard, [row for row in rows if row.is_ok]):
        # Where it lies in the new tar is found when that is written.
        new = replace(row, key=by_key[row.key].key, offset=NO_OFFSET, length=0)
        yield View(row=new, image=image)


def _images(
    shards: ShardSet, shard: int, rows: Sequence[ViewRow]
) -> Iterator[tuple[ViewRow, bytes]]:
    """Images of some rows, with few readings of the tar."""
    path, store = shards.layout.tar(shard), shards.store
    for run in runs_of(sorted(rows, key=lambda row: row.offset)):
        start, stop = run[0].offset, run[-1].offset + run[-1].length
        data = _read(store, path, start, stop - start)
        for row in run:
            image = data[row.offset - start :][: row.length]
            if sha256_hex(image) != row.sha256:
                image = shards.image(shard, row)  # read again by itself, and refused if it is wrong
            yield row, image


def _read(store: Store, path: str, offset: int, length: int) -> bytes:
    try:
        return store.read_range(path, offset, length)
    except FileNotFoundError as exc:
        raise CorruptError(f"{store.at(path)}: is gone; {_ADVICE}") from exc


def runs_of(rows: Sequence[ViewRow]) -> Iterator[Sequence[ViewRow]]:
    """Rows that are read together, in the order of their images in the tar.

    The images of a run lie at most MAX_GAP_BYTES from each other, and together they take at most
    MAX_READ_BYTES, unless one alone is larger.
    """
    run: list[ViewRow] = []
    for row in rows:
        if run:
            gap = row.offset - run[-1].offset - run[-1].length
            if gap > MAX_GAP_BYTES or row.offset + row.length - run[0].offset > MAX_READ_BYTES:
                yield run
                run = []
        run.append(row)
    if run:
        yield run
