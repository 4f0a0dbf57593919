"""Merge equal subjects into one group, in the order of their first appearance.

Subjects lie in a temporary file, so that memory holds two hashes of each and not its text.
"""

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests.columns import DeclaredColumn, require_values
from manifests.errors import CollisionError, ContractError
from manifests.foundation.scratch import scratch_errors
from manifests.ids import canonical_text, group_id
from manifests.plan import hash_rows
from manifests.rows import SubjectRow, table_to_subjects
from manifests.schema import schema_of, subject_columns
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.rows import MAX_ROW_CHARS, is_encodable
from prompts.subject import Subject

_TEXTS = ("text", "kind", "label", "licence", "source")

_BATCH_ROWS = 8192
_BATCH_CHARS = 1 << 24
"""Subjects that are written to the file, and read from it, at once: so many, or so much text."""


class MergedSubjects(Sequence[SubjectRow]):
    """The subjects of a plan in order, read from a temporary file when they are asked for."""

    kinds: frozenset[str]
    """What the texts are."""

    def __init__(
        self,
        spool: "_Spool",
        rows: NDArray[np.int64],
        num_merged: NDArray[np.int64],
        columns: Sequence[DeclaredColumn],
    ) -> None:
        """
        Args:
            rows: Of each group its first row in the file.
            num_merged: Number of equal rows of each group.
        """
        self._spool = spool
        self.first_rows = self._rows = rows
        """Of each group the number of the first subject that depicts it, from 0, ascending."""
        self._num_merged = num_merged
        self._columns = tuple(columns)
        self._schema = schema_of(subject_columns(columns))
        self.kinds = frozenset(spool.kinds)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> SubjectRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[SubjectRow]: ...
    def __getitem__(self, index: int | slice) -> SubjectRow | list[SubjectRow]:
        if isinstance(index, int):
            place = range(len(self))[index]
            return self[place : place + 1][0]
        return table_to_subjects(self._table(range(len(self))[index]), self._columns)

    def __iter__(self) -> Iterator[SubjectRow]:
        for start in range(0, len(self), _BATCH_ROWS):
            yield from self[start : start + _BATCH_ROWS]

    def table(self, start: int, stop: int) -> pa.Table:
        """Groups from one index to before another one, with the columns of the plan."""
        return self._table(range(len(self))[start:stop])

    def _table(self, groups: range) -> pa.Table:
        indices = np.arange(groups.start, groups.stop, groups.step, dtype=np.int64)
        rows = self._rows[indices]
        numbers = {
            "group_index": indices,
            "group_id": self._spool.ids[rows],
            "num_merged": self._num_merged[indices],
        }
        stored = self._spool.read(rows)
        arrays = [
            pa.array(numbers[name]) if name in numbers else stored[name]
            for name in self._schema.names
        ]
        return pa.table(arrays, schema=self._schema)

    @cached_property
    def sha256(self) -> str:
        """Hash of all of them; see `manifests.plan.hash_subjects`."""
        tables = (
            self.table(start, start + _BATCH_ROWS) for start in range(0, len(self), _BATCH_ROWS)
        )
        return hash_rows(
            row
            for table in tables
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
        )


def merge_subjects(
    subjects: Iterable[Subject], columns: Sequence[DeclaredColumn] = ()
) -> MergedSubjects:
    """One row for each pair of kind and text: of the first such subject, counting the others.

    Example: captions "a  fox", "a door" and "a fox" give rows "a fox" with `num_merged` 2, and
    "a door" with `num_merged` 1.

    Args:
        columns: The declared columns of scope `subject`, which each subject has a value for.

    Raises:
        BadPromptError: A text is nothing but white space, or a subject is not what a set can hold.
        ConflictingLabelError: One text has two labels.
        CollisionError: Two texts have one id. It was never seen: for n subjects the odds are
            n^2 / 2^64.
        ConfigError: The temporary file cannot be written.
    """
    spool = _Spool(columns)
    for number, subject in enumerate(subjects, start=1):
        _require_storable(subject, number, columns)
        spool.add(subject)
    spool.close()
    rows, num_merged = _groups(spool)
    return MergedSubjects(spool, rows, num_merged, columns)


def _groups(spool: "_Spool") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each group the first row in the file, ascending, and the rows of the input in it.

    Raises:
        ConflictingLabelError: Two rows of one text have two labels.
        CollisionError: Two rows of one id have two texts.
    """
    ids, digests, num_rows = spool.arrays()
    # Stable, so that the first of equal ids is the first in the file.
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    starts_group = np.ones(len(ids), bool)
    np.not_equal(in_order[1:], in_order[:-1], out=starts_group[1:])
    del in_order
    starts, others = np.flatnonzero(starts_group), np.flatnonzero(~starts_group)
    first = order[starts[np.searchsorted(starts, others) - 1]]
    later = order[others]
    del order, starts, starts_group  # there may be a hundred million rows
    differs = digests[later] != digests[first]
    if differs.any():
        row = later[differs].min()
        pair = np.array([first[later == row][0], row])
        _refuse(*spool.read(pair).to_pylist(), group_id=int(ids[row]))
    np.add.at(num_rows, first, num_rows[later])
    is_first = np.ones(len(ids), bool)
    is_first[later] = False
    rows = np.flatnonzero(is_first)
    return rows, num_rows[rows]


class _Spool:
    """Subjects in a file without a name, which is gone when nobody has it open any more."""

    def __init__(self, columns: Sequence[DeclaredColumn]) -> None:
        names = {*_TEXTS, *(column.name for column in columns)}
        stored = [column for column in subject_columns(columns) if column.name in names]
        self._schema = schema_of(stored).append(pa.field("where", pa.string()))
        self._declared = [column.name for column in stored if column.name not in _TEXTS]
        with scratch_errors():
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(self._file, self._schema, options=options)
        self._rows: list[tuple[Any, ...]] = []
        self._num_chars = 0
        self._starts: list[int] = []
        """First row of each batch in the file."""
        self._batch: tuple[int, pa.RecordBatch] | None = None
        """The batch that was read last, with its number."""
        self._ids = array("q")
        self._digests = array("q")
        self._num_rows = array("q")
        self.kinds: set[str] = set()

    def add(self, subject: Subject) -> None:
        kind, text, label = subject.kind, canonical_text(subject.text), subject.label.strip()
        if not text:
            raise BadPromptError(
                f"{subject.where}: nothing but white space, expected a text; fill or remove it"
            )
        others = subject.licence.strip(), subject.source.strip()
        declared = [subject.values[name] for name in self._declared]
        self._rows.append((kind, text, label, *others, *declared, subject.where))
        self._ids.append(group_id(kind, text))
        self._digests.append(hash((kind, text, label)))
        self._num_rows.append(subject.num_rows)
        self.kinds.add(kind)
        self._num_chars += len(text) + len(label)
        if len(self._rows) >= _BATCH_ROWS or self._num_chars >= _BATCH_CHARS:
            self._write()

    def close(self) -> None:
        """From now on it is read."""
        self._write()
        with scratch_errors():
            self._writer.close()
            self._file.flush()
        self._reader = pa.ipc.open_file(self._file)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each row its id, a hash of kind, text and label, and the rows of the input in it.

        They are given away, and only the ids are kept.
        """
        self.ids = np.frombuffer(self._ids, np.int64)
        digests = np.frombuffer(self._digests, np.int64)
        num_rows = np.frombuffer(self._num_rows, np.int64)
        del self._digests, self._num_rows
        return self.ids, digests, num_rows

    def _write(self) -> None:
        if self._rows:
            self._starts.append(len(self._ids) - len(self._rows))
            with scratch_errors():
                self._writer.write_table(pa.table([*zip(*self._rows, strict=True)], self._schema))
        self._rows = []
        self._num_chars = 0

    def read(self, rows: NDArray[np.int64]) -> pa.Table:
        """The cells of some rows; quick if near rows come after one another."""
        batches = np.searchsorted(self._starts, rows, side="right") - 1
        parts = []
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(batches)) + 1):
            if len(part):
                number = int(batches[part[0]])
                if self._batch is None or self._batch[0] != number:
                    self._batch = (number, self._reader.get_batch(number))
                parts.append(self._batch[1].take(rows[part] - self._starts[number]))
        return pa.Table.from_batches(parts, self._schema)


def _refuse(first: dict[str, Any], second: dict[str, Any], *, group_id: int) -> None:
    """Say why two rows of one id, the second of which comes later, are not one group."""
    # Ids are hashes. A collision would make two subjects positives for each other in training.
    if (first["kind"], first["text"]) != (second["kind"], second["text"]):
        raise CollisionError(
            f"{second['where']}: {second['text']!r} and {first['text']!r} ({first['where']}) share "
            f"the id {group_id}; change one of them"
        )
    raise ConflictingLabelError(
        f"{second['where']}: label {second['label']!r} for {second['text']!r}, but "
        f"{first['where']} says {first['label']!r}; give one caption one label"
    )


def _require_storable(subject: Subject, number: int, columns: Sequence[DeclaredColumn]) -> None:
    """Refuse what a prompt source of somebody else may give and no set can hold."""
    if not isinstance(subject, Subject):
        raise BadPromptError(f"subject {number} is {subject!r:.100}, expected a prompts.Subject")
    texts = (subject.text, subject.kind, subject.label, subject.licence, subject.source)
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_ROW_CHARS or not _is_whole(text):
            name = next(name for name in _TEXTS if getattr(subject, name) is text)
            raise BadPromptError(
                f"{subject.where or f'subject {number}'}: {name} is {text!r:.100}, expected a text "
                "without zero bytes and halves of characters, of at most "
                f"{MAX_ROW_CHARS:,} characters"
            )
    where = subject.where or f"subject {number}"
    if type(subject.num_rows) is not int or subject.num_rows < 1:
        raise BadPromptError(f"{where}: num_rows is {subject.num_rows!r:.40}, expected 1 or more")
    if columns or subject.values:
        try:
            require_values(subject.values, columns, what=where)
        except ContractError as exc:
            raise BadPromptError(str(exc)) from exc


def _is_whole(text: str) -> bool:
    return "\0" not in text and is_encodable(text)  # one would end the kind in what ids hash
