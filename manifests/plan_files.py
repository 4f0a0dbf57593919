"""The files of a plan: one row group for each shard, so that a worker reads the part that it makes.

A part is checked by what is in it: every page has a checksum, and every group the id of its text
and its place. A whole file is compared with its hash in the recipe, too, by whoever reads all of
it and by a driver before it hands out work.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from manifests.canonical import hash_file, hash_stream
from manifests.errors import CorruptError, VersionError
from manifests.foundation.scratch import scratch_errors
from manifests.ids import group_id
from manifests.plan import Subjects
from manifests.recipe import Identity, Recipe
from manifests.rereading import reread
from manifests.rows import SubjectRow, table_to_subjects
from manifests.schema import schema_of, subject_columns
from manifests.storage import Store
from manifests.tables import TableFile, write_tables

PART_ROWS = 8192
"""Rows of the plan that are held as Python objects at once."""
READERS = 8
"""Files that are compared at once: a bucket answers after a while."""
MAX_HELD_BYTES = 64 << 20
"""A file that is read whole lies in memory up to this size, and in TMPDIR beyond."""

_ADVICE = (
    "restore it from a copy, or remove it and run the same `synth generate` again; shards made "
    "since it was changed may have its labels, and `synth verify` names them"
)


class PlanFiles:
    """The plan of a set as it lies in its store. Several threads may read from it."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self._store = store
        self._recipe = recipe
        self._identity: Identity = recipe.identity
        self._columns = self._identity.columns
        self._schema = schema_of(subject_columns(self._columns))
        self._last: tuple[str, TableFile] | None = None
        """The file that was read last: a worker makes one shard of it after the other."""

    def of_shard(self, shard: int) -> list[SubjectRow]:
        """The subjects of one shard, in the order of the plan.

        Raises:
            CorruptError: Their file is gone or was changed.
        """
        return reread(lambda: self._of_shard(shard))

    def _of_shard(self, shard: int) -> list[SubjectRow]:
        path, row_group = self._identity.layout.subjects(shard)
        try:
            with self._must_exist(path):
                table = self._file(path).read(range(row_group, row_group + 1))
            subjects = table_to_subjects(table, self._columns)
            places = self._identity.subjects_in(shard)
            # What no checksum of a page covers, such as the headers of the pages and the footer,
            # cannot give other texts or places than these.
            if [subject.group_index for subject in subjects] != [*places] or any(
                subject.group_id != group_id(subject.kind, subject.text) for subject in subjects
            ):
                raise CorruptError(
                    f"{self._store.at(path)}: not the plan that the recipe was begun with; "
                    f"{_ADVICE}"
                )
        except CorruptError:
            self._last = None  # the footer may be what is wrong
            raise
        return subjects

    def _file(self, path: str) -> TableFile:
        last = self._last  # read and set at once, because threads share it
        if last is None or last[0] != path:
            file = TableFile(
                lambda offset, length: self._store.read_range(path, offset, length),
                self._store.size(path),
                self._schema,
                where=self._store.at(path),
            )
            last = self._last = path, file
        return last[1]

    def tables(self) -> Iterator[pa.Table]:
        """The whole plan in order, in parts; each file has the hash that the recipe states.

        Raises:
            CorruptError: A file is gone or was changed.
        """
        for path in self._identity.layout.subject_files():
            with scratch_errors(), tempfile.SpooledTemporaryFile(MAX_HELD_BYTES) as copy:
                size = reread(lambda path=path, copy=copy: self._copy(path, copy))  # type: ignore[misc]

                def read_range(offset: int, length: int, copy: IO[bytes] = copy) -> bytes:
                    copy.seek(offset)
                    return copy.read(length)

                file = TableFile(read_range, size, self._schema, where=self._store.at(path))
                for table in file.parts():
                    for start in range(0, table.num_rows, PART_ROWS):
                        yield table.slice(start, PART_ROWS)

    def subjects(self) -> Iterator[SubjectRow]:
        """The subjects of the whole set. Raises as `tables`."""
        for table in self.tables():
            yield from table_to_subjects(table, self._columns)

    def complete(self, subjects: Subjects, files: Mapping[str, Path], folder: Path) -> None:
        """Create the files that a killed writer left out.

        Args:
            subjects: The whole plan.
            files: Those that `write_plan` has written, by path; the others are written when they
                are needed.
            folder: Where they are written.

        Raises:
            VersionError: This version of pyarrow writes other bytes than the recipe states.
        """
        present = self._store.list("subjects")  # one request, and none for each of the files
        missing = [path for path in self._identity.layout.subject_files() if path not in present]
        files = files or write_plan(self._identity, subjects, folder, missing)
        for path in missing:
            if hash_file(files[path]) != self._recipe.subject_files.get(path):
                raise VersionError(
                    f"{self._store.at(path)}: is missing, and pyarrow {pa.__version__} does not "
                    "write the bytes that the recipe was begun with; install the version of "
                    "pyarrow that recipe.json names"
                )
            self._store.create(path, files[path])

    def require(self, shards: Iterable[int]) -> None:
        """Compare the files that hold the subjects of some shards with the recipe.

        For who hands out these shards: who makes one of them reads a part of a file, and a part
        has no hash.

        Raises:
            CorruptError: A file is gone or was changed.
        """
        paths = dict.fromkeys(self._identity.layout.subjects(shard)[0] for shard in shards)
        with ThreadPoolExecutor(READERS, thread_name_prefix="plan") as pool:
            for _ in pool.map(lambda path: reread(lambda: self._copy(path, None)), paths):
                pass

    def _copy(self, path: str, copy: IO[bytes] | None) -> int:
        """Read a file from its start to its end, and write it to another one; its size in bytes."""
        if copy is not None:
            copy.seek(0)
            copy.truncate()
        with self._must_exist(path), self._store.open(path) as file:
            digest, size = hash_stream(file, copy.write if copy else lambda piece: None)
        if digest != self._recipe.subject_files.get(path):
            raise CorruptError(
                f"{self._store.at(path)}: not the plan that the recipe was begun with; {_ADVICE}"
            )
        return size

    @contextmanager
    def _must_exist(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as exc:
            raise CorruptError(
                f"{self._store.at(path)}: a part of the plan is gone; run the same `synth "
                "generate` again, with its captions"
            ) from exc


def write_plan(
    identity: Identity, subjects: Subjects, folder: Path, paths: Collection[str] | None = None
) -> dict[str, Path]:
    """Write the plan's Parquet files to a local folder, with a shard in memory at a time.

    Args:
        paths: Write these files only.

    Returns:
        The local files by their path in the set.
    """
    files: dict[str, Path] = {}
    for path, shards in identity.layout.shards_of_subject_files():
        if paths is None or path in paths:
            files[path] = folder / path.replace("/", "-")
            groups = (identity.subjects_in(shard) for shard in shards)
            with scratch_errors(), files[path].open("wb") as file:
                write_tables(file, (subjects.table(one.start, one.stop) for one in groups))
    return files
