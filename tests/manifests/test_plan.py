from dataclasses import replace

from manifests.canonical import sha256_hex
from manifests.plan import hash_prompts, requests_of
from tests.sets import identity_of, prompt_rows

PROMPTS = prompt_rows("a red fox", "a blue door")


def test_views_of_a_prompt_in_the_order_of_keys() -> None:
    identity = identity_of(PROMPTS, images_per_prompt=4, guidance_scales=(1.0, 3.0))
    requests = requests_of(identity, PROMPTS[1:])
    assert [(each.key, each.guidance_scale, each.seed) for each in requests] == [
        ("000000001_000", 1.0, 849376597),
        ("000000001_001", 3.0, 849376598),
        ("000000001_002", 1.0, 849376599),
        ("000000001_003", 3.0, 849376600),
    ]
    assert [each.view_index for each in requests] == [0, 1, 2, 3]
    assert {each.prompt for each in requests} == {PROMPTS[1]}


def test_view_seed_does_not_depend_on_guidance() -> None:
    low = requests_of(identity_of(PROMPTS, guidance_scales=(1.0,)), PROMPTS)
    high = requests_of(identity_of(PROMPTS, guidance_scales=(9.0,)), PROMPTS)
    assert [each.seed for each in low] == [each.seed for each in high]


def test_views_of_a_prompt_do_not_depend_on_its_neighbours() -> None:
    identity = identity_of(PROMPTS)
    assert requests_of(identity, PROMPTS)[2:] == requests_of(identity, PROMPTS[1:])


def test_hash_of_the_prompts_never_changes() -> None:
    assert hash_prompts(prompt_rows("a red fox", "a blue door", "two pears")) == (
        "d79c2b2e851d6e6ffc46499200cef70fe045587b75fbb7f4e49f1a09167d83d0"
    )


def test_hash_of_the_prompts_is_the_one_of_the_worked_example() -> None:
    """SPEC.md, `recipe.json`."""
    row = replace(PROMPTS[0], label="fox", licence="CC0-1.0", source="captions.jsonl")
    line = '[0,8945900202904087436,"a red fox","","fox","CC0-1.0","captions.jsonl",1]'
    assert sha256_hex(sha256_hex(line.encode()).encode()) == hash_prompts([row])


def test_every_column_of_a_prompt_is_in_the_hash() -> None:
    changes = [{"label": "x"}, {"licence": "x"}, {"source": "x"}, {"negative_prompt": "x"}]
    changes += [{"prompt": "x"}, {"num_merged": 2}, {"group_id": 5}, {"group_index": 5}]
    hashes = {hash_prompts([replace(PROMPTS[0], **change)]) for change in changes}
    assert len(hashes | {hash_prompts(PROMPTS[:1])}) == 9


def test_the_order_of_prompts_is_in_the_hash() -> None:
    assert hash_prompts(PROMPTS) != hash_prompts(PROMPTS[::-1])
