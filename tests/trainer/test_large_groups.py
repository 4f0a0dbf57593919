"""Groups of more than 4 GiB: their places do not fit into 32 bits."""

import pyarrow as pa

from manifests.index import INDEX_SCHEMA
from trainer.data.shard_sets import Place, Places, arrays_of, compact, joined


def part(shard: int, *lengths: int) -> pa.Table:
    count = len(lengths)
    return pa.table(
        {
            "shard": [shard] * count,
            "group_id": [*range(count)],
            "num_ok": [2] * count,
            "offset": [sum(lengths[:row]) for row in range(count)],
            "length": lengths,
            "check": [*range(count)],
            "kind": ["caption"] * count,
            "label": ["a", "b"][:count],
        },
        schema=INDEX_SCHEMA,
    )


def test_places_of_groups_beyond_4_gib() -> None:
    small, large = part(0, 10, 20), part(1, 5 << 30, 7)
    places = Places(arrays_of(joined([compact(small), compact(large)])))
    assert places.of(1) == Place(shard=0, number=0, offset=10, length=20, check=1)
    assert places.of(2) == Place(shard=1, number=1, offset=0, length=5 << 30, check=0)
    assert places.of(3) == Place(shard=1, number=1, offset=5 << 30, length=7, check=1)
