"""From the subjects of a shard to its views: a pure function of the recipe's identity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import pyarrow as pa

from manifests.canonical import hash_json
from manifests.columns import DeclaredColumn, Value
from manifests.ids import view_key, view_seed
from manifests.recipe import Identity
from manifests.rows import SubjectRow
from manifests.schema import subject_columns


class Subjects(Protocol):
    """The subjects of a plan in order, wherever they lie."""

    def table(self, start: int, stop: int) -> pa.Table:
        """Those from one place to before another one, with the columns of the plan."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRequest:
    """One view to render: subject, variation and seed. With the recipe it decides every pixel."""

    key: str
    subject: SubjectRow
    view_index: int
    variation: Mapping[str, Value]
    """Values of the declared columns of scope `variation`."""
    seed: int


def requests_of(identity: Identity, subjects: Iterable[SubjectRow]) -> list[ViewRequest]:
    """The views of some subjects, in the order of keys.

    The views of a subject take the variations in turn. Each view has a seed of its own, unless the
    recipe is paired: then every variation is rendered with one seed before the next seed is used.

    Example: with variations A and B and seeds 0, 1, ... the views are A0 B1 A2 B3, and in a paired
    set A0 B0 A1 B1.
    """
    num_variations = len(identity.variations)
    requests = []
    for subject in subjects:
        for view in range(identity.views_per_subject):
            draw = view // num_variations if identity.paired else view
            requests.append(
                ViewRequest(
                    key=view_key(subject.group_index, view),
                    subject=subject,
                    view_index=view,
                    variation=identity.variations[view % num_variations],
                    seed=view_seed(identity.dataset_seed, subject.group_id, draw),
                )
            )
    return requests


def expected_values(identity: Identity, request: ViewRequest) -> Mapping[str, Value]:
    """The values of a row that recipe and plan decide before anything is rendered, by column.

    The others are status, reason, position and hash of the image, and columns of scope `view`.
    """
    subject = request.subject
    return {
        "group_id": subject.group_id,
        "view_index": request.view_index,
        "kind": subject.kind,
        "text": subject.text,
        "label": subject.label,
        "licence": subject.licence,
        "source": subject.source,
        "renderer": identity.renderer,
        "model": identity.model,
        "revision": identity.revision,
        "seed": request.seed,
        **identity.size_of(request.view_index),
        "format": identity.format,
        **identity.constants,
        **subject.values,
        **request.variation,
    }


def hash_subjects(subjects: Iterable[SubjectRow], columns: Sequence[DeclaredColumn]) -> str:
    """Hash of the merged subjects in order. It does not depend on the file that they are stored in.

    SPEC.md defines it under `recipe.json`, with a worked example.

    Args:
        columns: What the renderer declares; those of scope `subject` are part of the hash.
    """
    names = [column.name for column in subject_columns(columns)]
    return hash_rows([subject.get(name) for name in names] for subject in subjects)


def hash_rows(rows: Iterable[Sequence[Value]]) -> str:
    """The same hash, of the values of all columns of the plan in their order."""
    # Hashed row by row, so that a reader need not hold the whole plan in memory.
    digest = sha256()
    for index, row in enumerate(rows):
        line = hash_json(row)
        digest.update(f"\n{line}".encode() if index else line.encode())
    return digest.hexdigest()
