"""From the subjects of a shard to its views: a pure function of the recipe's identity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from manifests.canonical import hash_json
from manifests.columns import DeclaredColumn, Value
from manifests.ids import view_key, view_seed
from manifests.recipe import Identity
from manifests.rows import SubjectRow
from manifests.schema import subject_columns


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

    The variations are dealt over the views in turn. Each view has a seed of its own, unless the
    recipe is paired: then one draw of the noise goes through all variations before the next.

    Example: with variations A and B, unpaired views are A0 B1 A2 B3, paired ones A0 B0 A1 B1,
    where the number counts seeds.
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


def hash_subjects(subjects: Iterable[SubjectRow], columns: Sequence[DeclaredColumn]) -> str:
    """Hash of the merged subjects in order, whatever file they are kept in."""
    names = [column.name for column in subject_columns(columns)]
    digest = sha256()
    for index, subject in enumerate(subjects):
        line = hash_json([subject.get(name) for name in names])
        digest.update(f"\n{line}".encode() if index else line.encode())
    return digest.hexdigest()
