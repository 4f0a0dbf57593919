"""Reads a shard set under one URL: its committed files only, and each of them checked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from manifests.about import Example
from manifests.canonical import hash_file, sha256_hex
from manifests.errors import (
    ContractError,
    CorruptError,
    ForeignSetError,
    IdentityError,
    VersionError,
)
from manifests.foundation.differences import differing_keys
from manifests.foundation.scratch import scratch_folder
from manifests.layout import MAX_NOTES, RECIPE, SEAL, Layout
from manifests.manifest import Manifest, parse_manifest
from manifests.origin import Origin
from manifests.plan import Subjects, ViewRequest, requests_of
from manifests.plan_files import PlanFiles, write_plan
from manifests.recipe import Identity, Recipe, parse_recipe
from manifests.rereading import reread
from manifests.rows import SubjectRow, ViewRow, table_to_subjects
from manifests.seal import Seal, parse_seal
from manifests.shard_numbers import ShardNumbers
from manifests.storage import Store, open_store


class ShardSet:
    """A set that is read, or that shards are added to. Only committed shards are visible.

    Raises:
        ForeignSetError: There is no shard set at the URL.
        VersionError: It has another major version.
        CorruptError: Its recipe does not have the hash that is stated in it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        try:
            self.recipe: Recipe = reread(
                lambda: parse_recipe(store.read(RECIPE), where=store.at(RECIPE))
            )
        except FileNotFoundError as exc:
            raise ForeignSetError(
                f"{store.url}: no shard set here (no {RECIPE}); give the URL that `synth generate "
                "--out` was given"
            ) from exc
        self.recipe_sha256 = self.recipe.sha256
        self.layout: Layout = self.recipe.identity.layout
        self.plan = PlanFiles(store, self.recipe)

    @classmethod
    def open(cls, url: str) -> "ShardSet":
        """The set at a URL."""
        return cls(open_store(url))

    @classmethod
    def begin(
        cls,
        store: Store,
        identity: Identity,
        subjects: Subjects,
        *,
        environment: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> "ShardSet":
        """Create a set, or join an existing one with the same identity.

        Args:
            subjects: The whole plan, merged and in order.
            environment: Library versions and the like, for the recipe.
            settings: What a worker is built from, for the recipe.
            origin: Which sets views will be taken from, for the recipe.

        Raises:
            ForeignSetError: The URL holds other files.
            IdentityError: It holds a set with another identity, and the message names the keys; or
                one that takes its views from other sets.
            StoreError: Files cannot be created at the URL.
        """
        store.require_creatable()
        with scratch_folder() as folder:
            plan: dict[str, Path] = {}
            if not store.exists(RECIPE):
                foreign = store.names()
                if foreign and not store.exists(RECIPE):  # another writer may have begun meanwhile
                    raise ForeignSetError(
                        f"{store.url}: holds {foreign[0]} but no shard set; choose an empty folder"
                    )
                # The hashes of the plan's files stand in the recipe, so they are made before it.
                plan = write_plan(identity, subjects, folder)
                recipe = Recipe(
                    identity=identity,
                    settings=settings or {},
                    environment=environment,
                    subject_files={path: hash_file(file) for path, file in plan.items()},
                    origin=origin,
                )
                store.create(RECIPE, recipe.to_bytes())
            # Read back, because another writer may have created the recipe in the meantime.
            shards = cls(store)
            shards.require_identity(identity)
            if origin is not None and shards.recipe.origin != origin:
                raise IdentityError(
                    f"{store.url}: was begun from other sets than these; give those, or another "
                    "--out"
                )
            shards.plan.complete(subjects, plan, folder)
        return shards

    def require_identity(self, identity: Identity) -> None:
        """Refuse a recipe other than the one that the set was begun with.

        Raises:
            VersionError: The recipe of the set has keys that this version does not know.
            IdentityError: The recipes differ; the message names the keys.
        """
        if self.recipe.unknown:
            raise VersionError(
                f"{self.store.url}: was begun by a newer version, whose recipe also has "
                f"{', '.join(sorted(self.recipe.unknown))}; install a newer synth-rep to add to it"
            )
        if keys := differing_keys(self.recipe.identity.to_json(), identity.to_json()):
            raise IdentityError(
                f"{self.store.url}: was begun with another recipe; these keys differ: "
                f"{', '.join(keys)}. Give the old values, or another --out"
            )

    def committed(self) -> ShardNumbers:
        """The shards that have a manifest."""
        numbers = map(self.layout.number, self.store.files("manifests"))
        known = (number for number in numbers if number is not None)
        return ShardNumbers(self.layout.num_shards, known)

    def given_up(self, committed: ShardNumbers | None = None) -> dict[int, str]:
        """Shards that were given up and not committed later: the path of the last note by number.

        Example: {1: "failed/000001-000.json"}.

        Args:
            committed: What `committed` gave a moment ago; listed again if not given.
        """
        notes: dict[int, str] = {}
        for path in self.store.files("failed"):
            if (number := self.layout.number(path)) is not None:
                # Numbers of one width, so the path that sorts last is the last note.
                notes[number] = max(path, notes.get(number, ""))
        if notes:
            made = self.committed() if committed is None else committed
            notes = {number: path for number, path in notes.items() if number not in made}
        return dict(sorted(notes.items()))

    def add_note(self, shard: int, content: bytes) -> None:
        """Store a note on a shard that was given up, under the next free number.

        Args:
            content: The file, as SPEC.md describes it: a JSON object with `shard` and `errors`.

        Raises:
            ContractError: The shard has as many notes as can be numbered.
        """
        for note in range(MAX_NOTES):
            if self.store.create(self.layout.failed(shard, note), content):
                return
        raise ContractError(
            f"{self.store.url}: shard {shard} was given up {MAX_NOTES} times; seal without it "
            "(--seal-incomplete)"
        )

    def manifest(self, shard: int) -> Manifest:
        """Read the manifest of a committed shard and check that it belongs to this recipe.

        Raises:
            FileNotFoundError: The shard is not committed.
            CorruptError: The manifest is broken, or belongs to another recipe or shard.
        """
        path = self.layout.manifest(shard)
        where, columns = self.store.at(path), self.recipe.identity.columns
        manifest = reread(lambda: parse_manifest(self.store.read(path), columns, where=where))
        if (manifest.recipe_sha256, manifest.shard) != (self.recipe_sha256, shard):
            raise CorruptError(
                f"{self.store.at(path)}: belongs to another recipe or shard; remove it and render "
                "the shard again"
            )
        return manifest

    def subjects(self, shard: int) -> list[SubjectRow]:
        """The subjects of one shard, in the order of the plan.

        Raises:
            CorruptError: Their file is gone or was changed.
        """
        return self.plan.of_shard(shard)

    def all_subjects(self) -> Iterator[SubjectRow]:
        """The subjects of the whole set, in the order of the plan; a part in memory at a time.

        Raises:
            CorruptError: A file of the plan is gone or was changed.
        """
        return self.plan.subjects()

    def find_subjects(self, text: str, *, limit: int) -> tuple[list[SubjectRow], int]:
        """Subjects with a text: those that are the text, or if none is, those that contain it.

        Letters compare without their case where the text is a part.

        Returns:
            The first `limit` of them in the order of the plan, and how many there are.
        """
        columns = self.recipe.identity.columns
        exact: list[SubjectRow] = []
        containing: list[SubjectRow] = []
        num_exact = num_containing = 0
        for table in self.plan.tables():
            equal = table.filter(pc.equal(table["text"], text))
            part = table.filter(pc.match_substring(table["text"], text, ignore_case=True))
            num_exact += equal.num_rows
            num_containing += part.num_rows
            exact += table_to_subjects(equal.slice(0, limit - len(exact)), columns)
            containing += table_to_subjects(part.slice(0, limit - len(containing)), columns)
        return (exact, num_exact) if num_exact else (containing, num_containing)

    def requests(self, shard: int) -> list[ViewRequest]:
        """The views that the plan asks for in one shard, in the order of keys."""
        return requests_of(self.recipe.identity, self.subjects(shard))

    def image(self, shard: int, row: ViewRow) -> bytes:
        """The PNG or JPEG of a view as it is stored, checked by its hash.

        Args:
            row: The view's row in the manifest of this shard.

        Raises:
            CorruptError: The view failed, its bytes do not have the hash of the row, or the tar is
                gone.
        """
        if not row.is_ok:
            raise CorruptError(
                f"{self.store.at(self.layout.tar(shard))}, {row.key}: has no image, it failed "
                f"({row.reason}); take another view"
            )
        return self.image_at(shard, row)

    def image_at(self, shard: int, place: ViewRow | Example) -> bytes:
        """The PNG or JPEG at a place of the tar of a shard. Raises CorruptError as `image`."""
        path = self.layout.tar(shard)
        where = f"{self.store.at(path)}, {place.key}"

        def read() -> bytes:
            data = self.store.read_range(path, place.offset, place.length)
            if sha256_hex(data) != place.sha256:
                raise CorruptError(f"{where}: not the image that was committed; run `synth verify`")
            return data

        try:
            return reread(read)
        except FileNotFoundError as exc:
            raise CorruptError(f"{where}: the tar is gone; restore it from a copy") from exc

    def seal(self) -> Seal | None:
        """The seal, or None while the set is being made."""
        try:
            return reread(lambda: parse_seal(self.store.read(SEAL), where=self.store.at(SEAL)))
        except FileNotFoundError:
            return None
