"""Makes complete sets that are frozen in this repository, such as `golden_index/`.

    .venv/bin/python -m tests.contract.make_golden FOLDER
    .venv/bin/python -m tests.contract.make_golden FOLDER sizes
    .venv/bin/python -m tests.contract.make_golden FOLDER grown

A set has three captions of two views, at a scale of 1 and of 3, two captions in a shard, one failed
view, and pictures of 8 x 8 pixels in one colour. Its renderer declares a column of every scope.
With `sizes` the views at a scale of 3 have 12 x 8 pixels. With `grown` it takes the views of
`golden_index/` and has two more of each caption.

The folders beside this module were made by earlier states of it:

    golden/        version 2.0
    golden_sizes/  version 2.1, with `sizes`
    golden_index/  version 2.2: the seal has an index of the groups
    golden_grown/  version 2.3, with `grown`
    golden_about/  version 2.4: the seal says what its subjects are

Later versions must be able to read each of them as it is. So a set is made once for each version
of the format and never again, and the folder must not exist yet.
"""

import io
import sys
from pathlib import Path

import pyarrow as pa
from PIL import Image

from manifests.ids import group_id
from manifests.origin import Origin
from manifests.plan import ViewRequest
from manifests.rows import SubjectRow
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.taking import SealedSet, Taking
from tests.sets import Listed, commit, identity_of, size, views_of

CAPTIONS = ("a red fox", "a blue door", "un café à Paris")


def main(folder: str, kind: str = "") -> None:
    subjects = [
        SubjectRow(
            group_index=index,
            group_id=group_id("caption", caption),
            kind="caption",
            text=caption,
            label=caption.split()[-1],
            licence="CC0-1.0",
            source="golden.csv",
            num_merged=index + 1,
            values={"avoid": "blur" if index else ""},
        )
        for index, caption in enumerate(CAPTIONS)
    ]
    environment = {"pyarrow": pa.__version__}
    old = SealedSet.open(str(Path(__file__).parent / "golden_index")) if kind == "grown" else None
    sizes = [size(8, 8), size(12, 8)] if kind == "sizes" else []
    identity = identity_of(subjects, sizes=sizes, views_per_subject=4 if old else 2)

    def picture(request: ViewRequest) -> bytes:
        """A PNG in the colour of the seed."""
        sides = identity.size_of(request.view_index)
        file = io.BytesIO()
        shape = (sides["width_px"], sides["height_px"])
        Image.new("RGB", shape, f"#{request.seed % 2**24:06x}").save(file, "PNG")
        return file.getvalue()

    shards = ShardSet.begin(
        open_store(folder),
        identity,
        Listed(subjects),
        environment=environment,
        settings={"renderer": {"name": "painter"}},
        origin=Origin(verb="grow", sets=(old.source,)) if old else None,
    )
    for shard in range(shards.layout.num_shards):
        views = {view.row.key: view for view in views_of(shards, shard, picture)}
        if old is not None:
            taking = Taking([old], lambda group: group)
            views |= taking.views(identity, shards.requests(shard))
        commit(shards, shard, views=[*views.values()])
        shards.store.create(shards.layout.stats(shard), b'{"total_s": 1.5}\n')
    seal_set(shards)


if __name__ == "__main__":
    main(*sys.argv[1:])
