"""The report is one file that opens anywhere and shows what happened."""

import re
from pathlib import Path

from manifests.shard_set import ShardSet
from pipeline.config import load_config
from pipeline.generating import begin, finish, run
from pipeline.overview import overview
from pipeline.report import write_report
from pipeline.showing import half_blocks
from tests.running import write_captions


def make_set(folder: Path, **trouble: str) -> ShardSet:
    for kind, caption in trouble.items():
        (folder / kind).write_text(caption)
    flags = {
        "prompts.file": str(write_captions(folder, ["ant & bee", "cat", "dog"])),
        "views.per_prompt": 4,
        "views.guidance": (1.0, 3.0),
        "shards.prompts": 1,
        "renderer.name": "tests.renderers:Faulty",
        "renderer.trouble": str(folder),
        "execution.executor": "inline",
    }
    generation = begin(load_config(recipe=None, overrides=[], flags=flags), str(folder / "set"))
    for _ in run(generation):
        pass
    finish(generation, seal_incomplete=False)
    return generation.shards


def test_report_is_self_contained_and_shows_every_group(tmp_path: Path) -> None:
    html = write_report(make_set(tmp_path), num_groups=10)
    assert html.count("<img ") == 12
    assert len(re.findall('src="data:image/png;base64,', html)) == 12
    assert "ant &amp; bee" in html
    assert "guidance 1<" in html
    assert "guidance 3<" in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_report_names_failed_views_and_shards(tmp_path: Path) -> None:
    shards = make_set(tmp_path, blank="cat", nan="ant & bee", memory="dog")
    html = write_report(shards, num_groups=10)
    assert "4 blank" in html
    assert "4 non-finite" in html
    assert "1 shards were given up" in html
    assert "smaller --batch-size" in html


def test_rows_that_failed_carry_their_reason(tmp_path: Path) -> None:
    shards = make_set(tmp_path, blank="cat", nan="ant & bee")
    reasons = [shards.manifest(shard).rows[0].reason for shard in range(3)]
    assert reasons == ["non-finite", "blank", ""]


def test_overview_counts_what_is_committed(tmp_path: Path) -> None:
    seen = overview(make_set(tmp_path, memory="dog"))
    assert (seen.num_committed, seen.num_shards, seen.num_ok) == (2, 3, 8)
    assert list(seen.given_up) == [2]
    assert not seen.is_sealed
    assert seen.views_per_s
    assert seen.left_s == 0


def test_picture_becomes_half_blocks() -> None:
    import numpy as np

    text = half_blocks(np.zeros((4, 6, 3), dtype=np.uint8), width=80)
    assert text.plain == "\u2580" * 6 + "\n" + "\u2580" * 6 + "\n"
