"""Requests as the plan of a set makes them, to test a renderer without a set."""

from collections.abc import Mapping, Sequence

from manifests.columns import DeclaredColumn, Value
from manifests.ids import canonical_text, group_id
from manifests.plan import ViewRequest, requests_of
from manifests.recipe import Identity
from manifests.rows import SubjectRow


def requests_for(
    texts: Sequence[str],
    *,
    columns: Sequence[DeclaredColumn],
    variations: Sequence[Mapping[str, Value]],
    views_per_subject: int,
    kind: str = "caption",
    seed: int = 0,
    values: Mapping[str, Value] | None = None,
    paired: bool = False,
) -> list[ViewRequest]:
    """Requests for the views of some subjects, in the order of keys.

    Example: two texts and `views_per_subject=3` give six requests, the three of the first text
    before those of the second.

    Args:
        texts: Text of each subject.
        columns: All columns that the renderer declares.
        variations: What the renderer gives as `variations()`.
        values: Values of the columns of scope `subject`, the same for every subject; the zero of
            each column if not given.
    """
    zeros = {column.name: column.zero() for column in columns if column.scope == "subject"}
    subjects = [
        SubjectRow(
            group_index=index,
            group_id=group_id(kind, canonical_text(text)),
            kind=kind,
            text=canonical_text(text),
            values=zeros | dict(values or {}),
        )
        for index, text in enumerate(texts)
    ]
    constants = {column.name: column.zero() for column in columns if column.scope == "set"}
    # What decides no request, such as sizes and names, is left at any value.
    identity = Identity(
        dataset_seed=seed,
        views_per_subject=views_per_subject,
        variations=variations,
        paired=paired,
        num_subjects=len(subjects),
        subjects_per_shard=len(subjects),
        subjects_sha256="",
        renderer="",
        renderer_identity={},
        model="",
        revision="",
        columns=columns,
        constants=constants,
        render_width_px=1,
        render_height_px=1,
        width_px=1,
        height_px=1,
        format="png",
    )
    return requests_of(identity, subjects)
