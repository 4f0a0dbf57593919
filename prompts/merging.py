"""Merge equal subjects into one group, in the order of their first appearance.

Subjects lie in a temporary file, so that memory holds two hashes of each and not its text.
"""

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests.columns import DeclaredColumn, require_values
from manifests.errors import CollisionError, ContractError
from manifests.foundation.scratch import scratch_errors
from manifests.ids import canonical_text, group_id
from manifests.plan import hash_subjects
from manifests.rows import SubjectRow
from manifests.schema import schema_of, subject_columns
from prompts.errors import BadPromptError, ConflictingLabelError
from prompts.rows import MAX_ROW_CHARS
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
        names = [column.name for column in self._columns]
        groups = range(len(self))[index]
        return [
            SubjectRow(
                group_index=group,
                group_id=self._spool.ids[row],
                num_merged=int(self._num_merged[group]),
                values={name: values[name] for name in names},
                **{name: values[name] for name in _TEXTS},
            )
            for group, row, values in zip(
                groups, self._rows[index], self._spool.read(self._rows[index]), strict=True
            )
        ]

    def __iter__(self) -> Iterator[SubjectRow]:
        for start in range(0, len(self), _BATCH_ROWS):
            yield from self[start : start + _BATCH_ROWS]

    @cached_property
    def sha256(self) -> str:
        """Hash of all of them; see `manifests.plan.hash_subjects`."""
        return hash_subjects(self, self._columns)


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
    ids = np.frombuffer(spool.ids, np.int64)
    # Stable, so that the first of equal ids is the first in the file.
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order], prepend=-1))  # no id is negative
    num_rows = np.diff(starts, append=len(ids))
    first_rows = order[starts]
    digests = np.frombuffer(spool.digests, np.uint64)
    differs = digests[order] != np.repeat(digests[first_rows], num_rows)
    if differs.any():
        row = order[differs].min()
        group = np.searchsorted(starts, np.flatnonzero(order == row), side="right")[0] - 1
        _refuse(*spool.read(np.array([first_rows[group], row])), group_id=int(ids[row]))
    counts = np.frombuffer(spool.num_rows, np.int64)
    num_merged = np.add.reduceat(counts[order], starts) if len(ids) else num_rows
    in_order = np.argsort(first_rows)
    return MergedSubjects(spool, first_rows[in_order], num_merged[in_order], columns)


class _Spool:
    """Subjects in a file without a name, which is gone when nobody has it open any more."""

    def __init__(self, columns: Sequence[DeclaredColumn]) -> None:
        names = {*_TEXTS, *(column.name for column in columns)}
        stored = [column for column in subject_columns(columns) if column.name in names]
        self._schema = schema_of(stored).append(pa.field("where", pa.string()))
        with scratch_errors():
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(self._file, self._schema, options=options)
        self._cells: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._num_chars = 0
        self._starts: list[int] = []
        """First row of each batch in the file."""
        self._batch: tuple[int, pa.RecordBatch] | None = None
        """The batch that was read last, with its number."""
        self.ids = array("q")
        self.digests = array("Q")
        """Of each row a hash of kind, text and label."""
        self.num_rows = array("q")
        """Rows of the input that each row stands for."""
        self.kinds: set[str] = set()

    def add(self, subject: Subject) -> None:
        text = canonical_text(subject.text)
        if not text:
            raise BadPromptError(
                f"{subject.where}: nothing but white space, expected a text; fill or remove it"
            )
        row = {
            "kind": subject.kind,
            "text": text,
            "label": subject.label.strip(),
            "licence": subject.licence.strip(),
            "source": subject.source.strip(),
            "where": subject.where,
            **subject.values,
        }
        for name, cells in self._cells.items():
            cells.append(row[name])
        whole = f"{subject.kind}\0{text}\0{row['label']}".encode()
        self.digests.append(int.from_bytes(blake2b(whole, digest_size=8).digest()))
        self.ids.append(group_id(subject.kind, text))
        self.num_rows.append(subject.num_rows)
        self.kinds.add(subject.kind)
        self._num_chars += len(whole)
        if len(self._cells["text"]) >= _BATCH_ROWS or self._num_chars >= _BATCH_CHARS:
            self._write()

    def close(self) -> None:
        """From now on it is read."""
        self._write()
        with scratch_errors():
            self._writer.close()
            self._file.flush()
        self._reader = pa.ipc.open_file(self._file)

    def _write(self) -> None:
        num_rows = len(self._cells["text"])
        if num_rows:
            self._starts.append(len(self.ids) - num_rows)
            with scratch_errors():
                self._writer.write_table(pa.table(self._cells, schema=self._schema))
        self._cells = {name: [] for name in self._schema.names}
        self._num_chars = 0

    def read(self, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """Cells by column of some rows; quick if near rows come after one another."""
        batches = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(batches)) + 1):
            if not len(part):
                return
            number = int(batches[part[0]])
            if self._batch is None or self._batch[0] != number:
                self._batch = (number, self._reader.get_batch(number))
            yield from self._batch[1].take(rows[part] - self._starts[number]).to_pylist()


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
    where = subject.where or f"subject {number}"
    for name in _TEXTS:
        text = getattr(subject, name)
        if not isinstance(text, str) or len(text) > MAX_ROW_CHARS or not _is_unicode(text):
            raise BadPromptError(
                f"{where}: {name} is {text!r:.100}, expected a text without zero bytes and halves "
                f"of characters, of at most {MAX_ROW_CHARS:,} characters"
            )
    if type(subject.num_rows) is not int or subject.num_rows < 1:
        raise BadPromptError(f"{where}: num_rows is {subject.num_rows!r:.40}, expected 1 or more")
    try:
        require_values(subject.values, columns, what=where)
    except ContractError as exc:
        raise BadPromptError(str(exc)) from exc


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text  # one would end the kind in the text that ids are hashed from
