from dataclasses import replace
from typing import Any

from manifests.canonical import sha256_hex
from manifests.plan import hash_subjects, requests_of
from tests.sets import COLUMNS, identity_of, scales, subject_rows

SUBJECTS = subject_rows("a red fox", "a blue door")


def test_views_of_a_subject_in_the_order_of_keys() -> None:
    identity = identity_of(SUBJECTS, views_per_subject=4, variations=scales(1.0, 3.0))
    requests = requests_of(identity, SUBJECTS[1:])
    assert [(r.key, r.variation["guidance_scale"], r.seed) for r in requests] == [
        ("000000001_000", 1.0, 849376597),
        ("000000001_001", 3.0, 849376598),
        ("000000001_002", 1.0, 849376599),
        ("000000001_003", 3.0, 849376600),
    ]
    assert [request.view_index for request in requests] == [0, 1, 2, 3]
    assert [request.subject for request in requests] == 4 * [SUBJECTS[1]]


def test_view_seed_does_not_depend_on_guidance() -> None:
    low = requests_of(identity_of(SUBJECTS, variations=scales(1.0)), SUBJECTS)
    high = requests_of(identity_of(SUBJECTS, variations=scales(9.0)), SUBJECTS)
    assert [r.seed for r in low] == [r.seed for r in high]


def test_views_of_a_subject_do_not_depend_on_its_neighbours() -> None:
    identity = identity_of(SUBJECTS)
    assert requests_of(identity, SUBJECTS)[2:] == requests_of(identity, SUBJECTS[1:])


def test_paired_views_of_one_draw_share_its_seed() -> None:
    identity = identity_of(SUBJECTS, views_per_subject=4, paired=True)
    requests = requests_of(identity, SUBJECTS[1:])
    assert [(r.variation["guidance_scale"], r.seed) for r in requests] == [
        (1.0, 849376597),
        (3.0, 849376597),
        (1.0, 849376598),
        (3.0, 849376598),
    ]


def test_hash_of_the_subjects_never_changes() -> None:
    assert hash_subjects(subject_rows("a red fox", "a blue door", "two pears"), COLUMNS) == (
        "9a38b59cc16fedc525363d440f02dfcc240b103973c39c3286eb56627ba3bec3"
    )


def test_hash_of_the_subjects_is_that_of_the_worked_example() -> None:
    """SPEC.md, `recipe.json`."""
    row = replace(SUBJECTS[0], label="fox", licence="CC0-1.0", source="captions.jsonl")
    line = '[0,8945900202904087436,"caption","a red fox","fox","CC0-1.0","captions.jsonl",1]'
    assert sha256_hex(sha256_hex(line.encode()).encode()) == hash_subjects([row], ())


def test_every_column_of_a_subject_is_in_the_hash() -> None:
    changes: list[dict[str, Any]] = [{"label": "x"}, {"licence": "x"}, {"source": "x"}]
    changes += [{"values": {"avoid": "x"}}, {"text": "x"}, {"kind": "x"}, {"num_merged": 2}]
    changes += [{"group_id": 5}, {"group_index": 5}]
    hashes = {hash_subjects([replace(SUBJECTS[0], **change)], COLUMNS) for change in changes}
    assert len(hashes | {hash_subjects(SUBJECTS[:1], COLUMNS)}) == 10


def test_the_order_of_subjects_is_in_the_hash() -> None:
    assert hash_subjects(SUBJECTS, COLUMNS) != hash_subjects(SUBJECTS[::-1], COLUMNS)
